// Server-sent events out of a fetch: unlike EventSource, it can send a key.

/** Takes text as it comes; gives the events that are whole. */
export class EventParser {
  #pieces = [];
  #name = "";
  #data = [];

  /** @returns {Array<{name: string, data: string}>} the events that `text` has completed */
  push(text) {
    // A line may be hundreds of megabytes of an image: it is put together once, at its end.
    const isWithin = !/[\r\n]/.test(text) && !this.#pieces.at(-1)?.endsWith("\r");
    this.#pieces.push(text);
    if (isWithin) return [];
    // A carriage return at the end may be half of a line end.
    const lines = this.#pieces.join("").split(/\r\n|\n|\r(?!$)/);
    this.#pieces = [lines.pop()];
    return lines.map((line) => this.#line(line)).filter(Boolean);
  }

  #line(line) {
    if (line === "") return this.#end();
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === "event") this.#name = value;
    if (name === "data") this.#data.push(value);
    return null;
  }

  #end() {
    const event = { name: this.#name || "message", data: this.#data.join("\n") };
    const isEvent = this.#data.length > 0;
    this.#name = "";
    this.#data = [];
    return isEvent ? event : null;
  }
}

/** Give the events of a response until it ends. @param {() => void} [onBytes] called as any come */
export async function* eventsOf(response, onBytes = () => {}) {
  const parser = new EventParser();
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onBytes();
      for (const { name, data } of parser.push(decoder.decode(value, { stream: true }))) {
        yield { name, data: JSON.parse(data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
