"""Serves the ASGI application `app` of a Python file.

    python asgi_file.py FILE [--until-stdin-closes]

Prints {"ready": {"port": N, "url": "http://127.0.0.1:N"}} once it listens.
"""

import argparse
import runpy

from serving import serve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when stdin closes")
    options = parser.parse_args()
    serve(runpy.run_path(options.file, run_name="app")["app"], 0, "", options.until_stdin_closes)


if __name__ == "__main__":
    main()
