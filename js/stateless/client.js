// Calls of our routes, with the key where there is one, and errors in one shape.

import { eventsOf } from "./sse.js";

/** What a route answered in place of what was asked for. */
export class ApiError extends Error {
  /** @param {number} status 0 where nothing answered */
  constructor(status, body) {
    super(body.error || `The server answered ${status}.`);
    this.status = status;
    this.code = body.code ?? "";
    this.location = body.location ?? "";
    this.details = body.details ?? {};
    this.body = body;
  }
}

export class Client {
  #fetch;
  #key;

  /**
   * @param {(path: string, options: object) => Promise<Response>} fetch takes paths of ComfyUI's API
   * @param {{get: () => string}} key the key that the person has given, empty for none
   */
  constructor(fetch, key) {
    this.#fetch = fetch;
    this.#key = key;
  }

  get(path, options = {}) {
    return this.json("GET", path, undefined, options);
  }

  /** Call a route and return its JSON. Throws ApiError. */
  async json(method, path, body, options = {}) {
    const response = await this.call(method, path, body, options);
    return response.status === 204 ? null : response.json();
  }

  /** Call a route and give its events as they come. Throws ApiError. */
  async *events(method, path, body, options = {}) {
    const headers = { Accept: "text/event-stream", ...options.headers };
    const response = await this.call(method, path, body, { ...options, headers });
    yield* eventsOf(response, options.onBytes);
  }

  /** Call a route and return the response, if it is a good one. Throws ApiError. */
  async call(method, path, body, { signal, headers = {} } = {}) {
    const response = await this.#ask(`/stateless${path}`, {
      method,
      signal,
      headers: { ...this.#headers(body), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (response.ok) return response;
    throw new ApiError(response.status, await errorOf(response));
  }

  #headers(body) {
    const key = this.#key.get();
    return {
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...(key ? { "X-API-Key": key } : {}),
    };
  }

  async #ask(path, options) {
    try {
      return await this.#fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, { error: "ComfyUI cannot be reached.", code: "unreachable" });
    }
  }
}

async function errorOf(response) {
  try {
    const body = await response.json();
    if (typeof body?.error === "string") return body;
    if (typeof body?.reason === "string") return { ...body, error: body.reason }; // a probe
  } catch {
    // Not our shape: a proxy, or a ComfyUI without this extension.
  }
  const missing = response.status === 404 || response.status === 405;
  return {
    error: missing
      ? "This server does not have that route: the extension is off or older than this page."
      : `The server answered ${response.status}.`,
    code: missing ? "no_route" : "",
  };
}

/** A path's parts, each encoded. */
export function encodedPath(path) {
  return path.split("/").map(encodeURIComponent).join("/");
}
