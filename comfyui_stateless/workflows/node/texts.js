"use strict";

const LONG = 32 * 1024;

/** The long texts of a request, and those of its answer that are others. */
class LongTexts {
  constructor(mark, given) {
    this.mark = mark;
    this.given = given;
    this.more = [];
    this.numbers = new Map(given.map((text, number) => [text, number]));
  }

  /** Put the texts in place of the marks. */
  putBack(value) {
    if (Array.isArray(value)) return value.map((item) => this.putBack(item));
    if (value === null || typeof value !== "object") return value;
    if (Object.hasOwn(value, this.mark)) return this.given[value[this.mark]];
    const items = Object.entries(value).map(([name, item]) => [name, this.putBack(item)]);
    return Object.fromEntries(items);
  }

  /** Write a value as JSON, with marks in place of long texts. */
  stringify(value) {
    return JSON.stringify(value, (_, item) =>
      typeof item === "string" && item.length >= LONG ? { [this.mark]: this.number(item) } : item,
    );
  }

  number(text) {
    if (!this.numbers.has(text)) {
      this.numbers.set(text, this.given.length + this.more.length);
      this.more.push(text);
    }
    return this.numbers.get(text);
  }
}

module.exports = { LongTexts };
