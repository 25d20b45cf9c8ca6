// Speaks to the test that started this program: one JSON object per line on stdout.

/** Prints one event. */
export function emit(event) {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

/** Ends this process when stdin closes, so that a test that dies leaves nothing behind. */
export function exitWithStdin() {
  process.stdin.on("close", () => process.exit(0));
  process.stdin.resume();
}
