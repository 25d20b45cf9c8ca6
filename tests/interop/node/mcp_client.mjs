// A real MCP client for the tests: the TypeScript SDK over Streamable HTTP.
//
//     node mcp_client.mjs URL [--era ERA] [--bearer TOKEN] list
//     node mcp_client.mjs URL [--era ERA] [--bearer TOKEN] call NAME JSON [--progress] [--cancel-after-progress N]
//     node mcp_client.mjs URL [--era ERA] [--bearer TOKEN] listen
//     node mcp_client.mjs URL [--bearer TOKEN] task NAME JSON [--answer JSON]
//
// Without --era it is the SDK 1.x, which knows the legacy era alone. With `legacy`, `modern` (asks server/discover and falls
// back) or `pinned` (takes 2026-07-28 or nothing) it is the SDK 2.x.
// Prints one line per event: {"connected": ...}, {"progress": ...}, then one of {"tools": [...]}, {"result": ...},
// {"cancelled": true} or {"error": ...}. Only the last of these makes the exit code 1. `listen` prints {"listening": true}, and
// {"changed": [names]} whenever it is told that the list of tools is another. `task` makes the call a task, as the SDK 1.x does it, and
// prints {"created": task}, {"status": task} for what it asked and {"told": task} for what it was told, {"asked": params} for what it
// answers with --answer, {"listed": [ids]} and the result.

import { parseArgs } from "node:util";

import * as second from "@modelcontextprotocol/client";
import * as first from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CallToolResultSchema,
  ElicitRequestSchema,
  McpError,
  TaskStatusNotificationSchema,
} from "@modelcontextprotocol/sdk/types.js";

import { emit } from "./events.mjs";

const MODES = { legacy: "legacy", modern: "auto", pinned: { pin: "2026-07-28" } };

// What differs between the two.
function sdk({ url, command, era, bearer, answer }) {
  const requestInit = { headers: bearer ? { Authorization: `Bearer ${bearer}` } : {} };
  const identity = { name: "typescript-sdk", version: "1.0.0" };
  const onChanged = (error, tools) => emit(error ? { error: error.message } : { changed: tools.map((tool) => tool.name) });
  const listChanged = command === "listen" ? { tools: { onChanged } } : undefined;
  if (era === undefined) {
    const transport = new StreamableHTTPClientTransport(url, { requestInit });
    const capabilities = answer ? { elicitation: {} } : {};
    const client = new first.Client(identity, { listChanged, capabilities });
    client.setNotificationHandler(TaskStatusNotificationSchema, ({ params }) => emit({ told: params }));
    if (answer) {
      client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
        emit({ asked: params });
        return { action: "accept", content: answer, _meta: params._meta };
      });
    }
    return {
      transport,
      client,
      revision: () => transport.protocolVersion,
      call: (params, options) => client.callTool(params, CallToolResultSchema, options),
    };
  }
  const transport = new second.StreamableHTTPClientTransport(url, { requestInit });
  const client = new second.Client(identity, { listChanged, versionNegotiation: { mode: MODES[era] } });
  return {
    transport,
    client,
    revision: () => client.getNegotiatedProtocolVersion(),
    call: (params, options) => client.callTool(params, options),
  };
}

const USAGE = "usage: mcp_client.mjs URL [--era ERA] [--bearer TOKEN] (list | listen | (call | task) NAME JSON [--progress] [--meta JSON] [--answer JSON])";

function parse() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      bearer: { type: "string" },
      era: { type: "string" },
      timeout: { type: "string", default: "30" },
      meta: { type: "string" },
      answer: { type: "string" },
      progress: { type: "boolean", default: false },
      "cancel-after-progress": { type: "string" },
    },
  });
  const [url, command, name, args] = positionals;
  const wanted = { list: 2, listen: 2, call: 4, task: 4 }[command];
  if (positionals.length !== wanted || (values.era !== undefined && !(values.era in MODES))) {
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
    answer: values.answer && JSON.parse(values.answer),
    bearer: values.bearer,
    era: values.era,
    timeoutMs: Number(values.timeout) * 1000,
    cancelAfter: cancelAfter === undefined ? undefined : Number(cancelAfter),
    progress: values.progress || cancelAfter !== undefined,
  };
}

async function listTools({ client }, options) {
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

// Cancelling means aborting the signal: the SDK then tells the server in the way of its era.
async function callTool({ call }, options) {
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
    const result = await call(params, {
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

// Lists the tools first: the SDK looks there which of them can be tasks.
async function runTask({ client }, options) {
  await client.listTools();
  const { tasks } = client.experimental;
  const call = { name: options.name, arguments: options.arguments };
  for await (const message of tasks.callToolStream(call, CallToolResultSchema, { timeout: options.timeoutMs })) {
    if (message.type === "taskCreated") emit({ created: message.task });
    if (message.type === "taskStatus") emit({ status: message.task });
    if (message.type === "error") throw message.error;
    if (message.type !== "result") continue;
    const listed = await tasks.listTasks();
    emit({ listed: listed.tasks.map((task) => task.taskId) });
    emit({ result: message.result });
  }
}

// Until the test ends this program.
async function listen() {
  emit({ listening: true });
  await new Promise((resolve) => setInterval(resolve, 3_600_000));
}

async function run(options) {
  const chosen = sdk(options);
  const { client, transport } = chosen;
  await client.connect(transport, { timeout: options.timeoutMs });
  emit({ connected: { protocolVersion: chosen.revision(), server: client.getServerVersion() } });
  try {
    await { list: listTools, listen, call: callTool, task: runTask }[options.command](chosen, options);
  } finally {
    await transport.terminateSession();
    await client.close();
  }
}

try {
  await run(parse());
} catch (error) {
  const known = error instanceof McpError || error instanceof second.ProtocolError ? { code: error.code, data: error.data } : {};
  const cause = error.cause ? `: ${error.cause.message}` : "";
  emit({ error: { ...known, message: error.message + cause } });
  process.exitCode = 1;
}
