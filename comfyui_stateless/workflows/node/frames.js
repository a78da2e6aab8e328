"use strict";

const NEWLINE = 10;

/** Cuts a stream of bytes into requests: a line of JSON, and the texts behind it. */
class Frames {
  constructor(each) {
    this.each = each;
    this.parts = [];
    this.request = undefined;
    this.wanted = 0;
  }

  take(bytes) {
    while (bytes.length) bytes = this.request ? this.text(bytes) : this.line(bytes);
  }

  /** Use the bytes of a line; return those behind it. */
  line(bytes) {
    const end = bytes.indexOf(NEWLINE);
    this.parts.push(end < 0 ? bytes : bytes.subarray(0, end));
    if (end < 0) return bytes.subarray(bytes.length);
    const { texts, ...request } = JSON.parse(this.joined());
    this.request = { ...request, texts: [] };
    this.lengths = texts;
    this.next();
    return bytes.subarray(end + 1);
  }

  /** Use the bytes of a text; return those behind it. */
  text(bytes) {
    const used = bytes.subarray(0, this.wanted);
    this.parts.push(used);
    this.wanted -= used.length;
    if (this.wanted === 0) {
      this.request.texts.push(this.joined());
      this.next();
    }
    return bytes.subarray(used.length);
  }

  next() {
    this.wanted = this.lengths.shift() ?? 0;
    if (this.wanted) return;
    const { request } = this;
    this.request = undefined;
    this.each(request);
  }

  joined() {
    const text = Buffer.concat(this.parts).toString("utf8");
    this.parts = [];
    return text;
  }
}

module.exports = { Frames };
