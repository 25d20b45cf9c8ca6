// A real MCP client for the tests: the TypeScript SDK 1.x over Streamable HTTP (legacy era, the only one it knows).
//
//     node mcp_client.mjs URL [--bearer TOKEN] list
//     node mcp_client.mjs URL [--bearer TOKEN] call NAME JSON [--progress] [--cancel-after-progress N]
//
// Prints one line per event: {"connected": ...}, {"progress": ...}, then one of {"tools": [...]}, {"result": ...},
// {"cancelled": true} or {"error": ...}. Only the last of these makes the exit code 1.

import { parseArgs } from "node:util";

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { CallToolResultSchema, McpError } from "@modelcontextprotocol/sdk/types.js";

import { emit } from "./events.mjs";

const USAGE = "usage: mcp_client.mjs URL [--bearer TOKEN] (list | call NAME JSON [--progress] [--meta JSON])";

function parse() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      bearer: { type: "string" },
      timeout: { type: "string", default: "30" },
      meta: { type: "string" },
      progress: { type: "boolean", default: false },
      "cancel-after-progress": { type: "string" },
    },
  });
  const [url, command, name, args] = positionals;
  const wanted = { list: 2, call: 4 }[command];
  if (positionals.length !== wanted) {
    console.error(USAGE);
    process.exit(2);
  }
  const cancelAfter = values["cancel-after-progress"];
  return {
    url: new URL(url),
    command,
    name,
    arguments: args && JSON.parse(args),
    meta: values.meta && JSON.parse(values.meta),
    bearer: values.bearer,
    timeoutMs: Number(values.timeout) * 1000,
    cancelAfter: cancelAfter === undefined ? undefined : Number(cancelAfter),
    progress: values.progress || cancelAfter !== undefined,
  };
}

async function listTools(client, options) {
  const tools = [];
  let pages = 0;
  let cursor;
  do {
    const page = await client.listTools({ cursor }, { timeout: options.timeoutMs });
    tools.push(...page.tools);
    pages += 1;
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  emit({ tools, pages });
}

// Cancelling means aborting the signal: the SDK then sends notifications/cancelled.
async function callTool(client, options) {
  const abort = new AbortController();
  let seen = 0;
  const onprogress = (progress) => {
    seen += 1;
    emit({ progress });
    if (options.cancelAfter !== undefined && seen >= options.cancelAfter) abort.abort("the test cancels");
  };
  const params = { name: options.name, arguments: options.arguments };
  if (options.meta) params._meta = options.meta;
  try {
    const result = await client.callTool(params, CallToolResultSchema, {
      signal: abort.signal,
      timeout: options.timeoutMs,
      ...(options.progress ? { onprogress } : {}),
    });
    emit({ result });
  } catch (error) {
    if (!abort.signal.aborted) throw error;
    emit({ cancelled: true });
  }
}

async function run(options) {
  const headers = options.bearer ? { Authorization: `Bearer ${options.bearer}` } : {};
  const transport = new StreamableHTTPClientTransport(options.url, { requestInit: { headers } });
  const client = new Client({ name: "typescript-sdk", version: "1.0.0" });
  await client.connect(transport, { timeout: options.timeoutMs });
  emit({ connected: { protocolVersion: transport.protocolVersion, server: client.getServerVersion() } });
  try {
    await { list: listTools, call: callTool }[options.command](client, options);
  } finally {
    await transport.terminateSession();
    await client.close();
  }
}

try {
  await run(parse());
} catch (error) {
  const known = error instanceof McpError ? { code: error.code, data: error.data } : {};
  const cause = error.cause ? `: ${error.cause.message}` : "";
  emit({ error: { ...known, message: error.message + cause } });
  process.exitCode = 1;
}
