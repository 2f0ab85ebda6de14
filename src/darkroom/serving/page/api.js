// Requests to the server. The message of an ApiError is the server's own; its status is 0 if there was no response.

// The server's own path, which may be below another one at a proxy.
const ROOT = new URL("..", import.meta.url);
const KEY = "darkroom-key";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  // Whether the same request may succeed later.
  get passes() {
    return this.status === 0 || this.status >= 500 || this.status === 429;
  }
}

export const keep = (key) => sessionStorage.setItem(KEY, key);
export const hasKey = () => sessionStorage.getItem(KEY) !== null;

async function ask(path, options = {}, read = (response) => response.json()) {
  const key = sessionStorage.getItem(KEY);
  const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  let response, answer;
  try {
    response = await fetch(new URL(path, ROOT), { cache: "no-store", ...options, headers });
    answer = await (response.ok ? read(response) : response.json()).catch(() => null);
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new ApiError(0, "The server does not respond");
  }
  if (response.ok && answer !== null) return answer;
  const line = typeof answer?.detail === "string" ? answer.detail : `The server responded with status ${response.status}.`;
  throw new ApiError(response.status, line);
}

export const model = () => ask("v1/model");
export const gallery = () => ask("v1/model/gallery");
export const confusion = () => ask("v1/model/confusion");
export const report = () => ask("v1/model/report", {}, (response) => response.text());
export const drift = () => ask("v1/drift");

function form({ file, name }) {
  const body = new FormData();
  body.append("image", file, name);
  return body;
}

export function predict(picture, { explain }, signal) {
  const { drawn = false, exact = false } = picture;
  // An image of the test split is already as the model expects it: it is never inverted.
  const query = new URLSearchParams({ drawn, invert: exact ? "false" : "auto", seen: true, challenger: true, explain });
  return ask(`v1/predict?${query}`, { method: "POST", body: form(picture), signal });
}

export function correct(picture, label) {
  const query = new URLSearchParams({ label, drawn: picture.drawn ?? false });
  return ask(`v1/inbox?${query}`, { method: "POST", body: form(picture) });
}
