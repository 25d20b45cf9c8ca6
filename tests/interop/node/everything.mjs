// Starts @modelcontextprotocol/server-everything over Streamable HTTP or HTTP+SSE (legacy era only) on loopback.
//
//     node everything.mjs [--transport {http,sse}] [--port N] [--until-stdin-closes]
//
// Prints {"ready": {"port": N, "url": "http://127.0.0.1:N/mcp"}} once it listens; the path is /sse over HTTP+SSE. The server itself takes a port but
// neither an address nor a way to tell which port it got, so its one call of `listen` is given both here.

import { Server } from "node:net";
import { parseArgs } from "node:util";

import { emit, exitWithStdin } from "./events.mjs";

const { values } = parseArgs({
  options: {
    transport: { type: "string", default: "http" },
    port: { type: "string", default: "0" },
    "until-stdin-closes": { type: "boolean", default: false },
  },
});
if (values["until-stdin-closes"]) exitWithStdin();

// stdout belongs to the events.
console.log = console.error;

const [path, file] = { http: ["/mcp", "streamableHttp.js"], sse: ["/sse", "sse.js"] }[values.transport];

const { listen } = Server.prototype;
Server.prototype.listen = function (_port, ...rest) {
  this.once("listening", () => {
    const { port } = this.address();
    emit({ ready: { port, url: `http://127.0.0.1:${port}${path}` } });
  });
  return listen.call(this, Number(values.port), "127.0.0.1", ...rest);
};

await import(`@modelcontextprotocol/server-everything/dist/transports/${file}`);
