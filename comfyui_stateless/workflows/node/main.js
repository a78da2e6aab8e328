"use strict";

// Requests come as JSON lines on standard input, answers go out as lines on standard output, in any
// order. No workflow file runs on this thread, so that none can stop it, or write on that pipe.

const { Rooms } = require("./rooms");

const options = JSON.parse(process.argv[2]);
const rooms = new Rooms(options, (file, line) => send(JSON.stringify({ log: line, file })));

function send(line) {
  process.stdout.write(line + "\n");
}

async function answer(line) {
  const request = JSON.parse(line);
  const reply = await rooms.serve(request);
  // What the threads answer is JSON already, and may be large.
  const fields = Object.entries(reply).map(([name, json]) => `,${JSON.stringify(name)}:${json}`);
  send(`{"id":${request.id}${fields.join("")}}`);
}

let unfinished = [];
process.stdin.setEncoding("utf8");
process.stdin.on("data", (text) => {
  const lines = text.split("\n");
  unfinished.push(lines[0]);
  for (const next of lines.slice(1)) {
    answer(unfinished.join(""));
    unfinished = [next];
  }
});
process.stdin.on("end", () => process.exit(0));
