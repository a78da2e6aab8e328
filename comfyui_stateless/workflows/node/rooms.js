"use strict";

// Each workflow file runs on a thread of its own, its room: what one file does wrong, an endless
// loop included, ends its room and nobody else's. Few rooms are kept; making one anew takes about
// 50 ms.

const path = require("node:path");
const { Worker } = require("node:worker_threads");

const KEPT_ROOMS = 8;
const MEMORY_MB = 1024;
const KEPT_PROGRAMS = 500;
const TRANSPILER_IDLE_MS = 5000;

/** Why a question got no answer; `again` if that was not its own fault. */
class Ended extends Error {
  constructor({ again = false, ...failed }) {
    super(failed.reason);
    Object.assign(this, { again, failed });
  }
}

class Room {
  constructor(script, data, log) {
    this.asked = new Map();
    this.count = 0;
    this.worker = new Worker(path.join(__dirname, script), {
      workerData: data,
      stdout: true,
      stderr: true,
      resourceLimits: { maxOldGenerationSizeMb: MEMORY_MB },
    });
    this.worker.on("message", ({ id, reply, crashed }) => {
      if (crashed) this.fail(crashed);
      else this.settle(id, ({ resolve }) => resolve(reply));
    });
    this.worker.on("error", (error) => this.fail({ reason: crash(error) }));
    this.worker.on("exit", (code) => this.fail({ reason: `it called process.exit(${code})` }));
    // Read them always: unread output is kept in memory.
    for (const stream of [this.worker.stdout, this.worker.stderr]) eachLine(stream, log);
  }

  get idle() {
    return this.asked.size === 0;
  }

  /** Ask the thread something; after `limit` milliseconds the room ends, whoever else waits. */
  ask(question, limit) {
    const id = ++this.count;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const reason = `it took longer than ${limit / 1000} s`;
        this.settle(id, () => reject(new Ended({ reason })));
        this.end();
      }, limit);
      this.asked.set(id, { resolve, reject, timer });
      this.worker.postMessage({ id, question });
    });
  }

  settle(id, tell) {
    const asked = this.asked.get(id);
    if (asked === undefined) return;
    this.asked.delete(id);
    clearTimeout(asked.timer);
    tell(asked);
  }

  fail(failed) {
    this.dead = true;
    const error = new Ended(failed);
    for (const id of [...this.asked.keys()]) this.settle(id, ({ reject }) => reject(error));
  }

  end() {
    this.fail({ reason: "another request ended its thread", again: true });
    this.worker.terminate();
  }
}

function crash(error) {
  if (error?.code === "ERR_WORKER_OUT_OF_MEMORY") return "it ran out of memory";
  return `its thread failed: ${error?.message ?? error}`;
}

function eachLine(stream, log) {
  let rest = "";
  stream.setEncoding("utf8");
  stream.on("data", (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    lines.forEach(log);
  });
  stream.on("end", () => rest && log(rest));
}

class Rooms {
  constructor({ packages, limit }, log) {
    this.packages = packages;
    this.limit = limit;
    this.log = log;
    this.programs = new Map();
    this.rooms = new Map();
  }

  /** Answer one request with fields that are JSON text, and `texts` that they refer to. */
  async serve(request) {
    try {
      return await (request.do === "load" ? this.load(request) : this.use(request));
    } catch (error) {
      const failed = error.failed ?? { reason: error.message, trace: error.stack };
      return { failed: JSON.stringify(failed) };
    }
  }

  /** Describe a file: as it is now, or as the modules that it once was. */
  async load({ key, file, surroundings, modules }) {
    const read = modules ? { modules } : await this.transpile(file);
    if (read.failed) return { failed: JSON.stringify(read.failed) };
    this.keep(key, { file, surroundings, modules: read.modules });
    const reply = await this.inRoom(key, { do: "describe" });
    return reply.failed ? reply : { ...reply, modules: JSON.stringify(read.modules) };
  }

  /** Have a file check its input, or build a graph of it. */
  async use({ id, key, program, ...question }) {
    if (program) this.keep(key, program);
    if (!this.programs.has(key)) return { unknown: "true" };
    return this.inRoom(key, question);
  }

  keep(key, program) {
    this.programs.delete(key);
    this.programs.set(key, program);
    // A program that is gone is sent again when it is called.
    const oldest = this.programs.keys().next().value;
    if (this.programs.size > KEPT_PROGRAMS) this.programs.delete(oldest);
  }

  async transpile(file) {
    clearTimeout(this.idle);
    if (!this.transpiler || this.transpiler.dead) {
      const log = (line) => this.log(file, line);
      this.transpiler = new Room("transpiler.js", { packages: this.packages }, log);
    }
    const transpiler = this.transpiler;
    try {
      return await transpiler.ask({ file }, this.limit);
    } finally {
      // TypeScript takes 100 MB, which is too much to keep for a rare change.
      clearTimeout(this.idle);
      this.idle = setTimeout(() => transpiler.idle && transpiler.end(), TRANSPILER_IDLE_MS);
    }
  }

  async inRoom(key, question) {
    // What it can be answered with when the program is forgotten meanwhile.
    const program = this.programs.get(key);
    try {
      return await this.room(key, program).ask(question, this.limit);
    } catch (error) {
      if (!error.again) throw error;
      return await this.room(key, program).ask(question, this.limit);
    } finally {
      this.trim();
    }
  }

  room(key, program) {
    let room = this.rooms.get(key);
    this.rooms.delete(key);
    if (!room || room.dead) {
      const data = { program, packages: this.packages };
      room = new Room("room.js", data, (line) => this.log(program.file, line));
    }
    this.rooms.set(key, room); // last in the map: used last
    return room;
  }

  trim() {
    for (const [key, room] of this.rooms) {
      if (room.dead) this.rooms.delete(key);
      else if (this.rooms.size > KEPT_ROOMS && room.idle) {
        this.rooms.delete(key);
        room.end();
      }
    }
  }
}

module.exports = { Rooms };
