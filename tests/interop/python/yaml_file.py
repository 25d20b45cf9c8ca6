"""Prints a YAML file as one JSON document: {"document": ...}.

    python yaml_file.py FILE
"""

import sys

import yaml

from events import emit

with open(sys.argv[1], encoding="utf-8") as file:
    emit(document=yaml.safe_load(file))
