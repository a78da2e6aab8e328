"use strict";

// Requests come on standard input, answers go out on standard output, in any order. Each is a line of
// JSON with the lengths of the texts that stand behind it. No workflow file runs on this thread, so
// that none can stop it, or write on that pipe.

const { Frames } = require("./frames");
const { Rooms } = require("./rooms");

const options = JSON.parse(process.argv[2]);
const rooms = new Rooms(options, (file, line) => send(JSON.stringify({ log: line, file })));

function send(line, texts = []) {
  process.stdout.write(line + "\n");
  for (const text of texts) process.stdout.write(text);
}

async function answer(request) {
  const { texts = [], ...reply } = await rooms.serve(request);
  const whole = texts.map((text) => Buffer.from(text));
  const lengths = JSON.stringify(whole.map((text) => text.length));
  // What the threads answer is JSON already, and may be large.
  const fields = Object.entries(reply).map(([name, json]) => `,${JSON.stringify(name)}:${json}`);
  send(`{"id":${request.id},"texts":${lengths}${fields.join("")}}`, whole);
}

const frames = new Frames(answer);
process.stdin.on("data", (bytes) => frames.take(bytes));
process.stdin.on("end", () => process.exit(0));
