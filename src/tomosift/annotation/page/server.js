// Requests to the server. Answers leave through an outbox, in order, and are repeated until they are on its disk.

const KEY = "tomosift-token", KEPT = "tomosift-outbox";
const FIRST_PAUSE = 300, LONGEST_PAUSE = 4000;

const token = (() => {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    sessionStorage.setItem(KEY, token);
    history.replaceState(null, "", location.pathname); // removes the token from the history of the browser
  }
  return token || sessionStorage.getItem(KEY) || "";
})();

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

const request = async (path, options = {}) => {
  const headers = { Authorization: `Bearer ${token}`, ...options.headers };
  const answer = await fetch(path, { ...options, headers, cache: "no-store" });
  if (answer.ok) return answer;
  const detail = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, detail.detail || `the server answered ${answer.status}`);
};

export const getJson = async (path, query = {}) => {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) for (const one of [value].flat()) words.append(name, one);
  return (await request(`${path}?${words}`)).json();
};

export const getBytes = async (path) => {
  const answer = await request(path);
  return { bytes: new Uint8Array(await answer.arrayBuffer()), headers: answer.headers };
};

export const getPicture = async (path) => {
  const answer = await request(path);
  return { address: URL.createObjectURL(await answer.blob()), headers: answer.headers };
};

export const post = async (path, body) => {
  const headers = { "Content-Type": "application/json" };
  return (await request(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
};

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Sends answers in order. Unconfirmed ones survive a reload; the server ignores a repeated request. */
export class Outbox {
  constructor(onChange, onRefusal) {
    this.onChange = onChange;
    this.onRefusal = onRefusal;
    this.waiting = JSON.parse(sessionStorage.getItem(KEPT) || "[]");
    this.confirmed = new Map();
    this.running = false;
    if (this.waiting.length) this.run();
  }

  get count() { return this.waiting.length; }

  /** Rows whose answers may not have reached the server. */
  get rows() { return this.waiting.flatMap(({ body }) => (body.row === undefined ? [] : [body.row])); }

  /** Queue a request and return its name; `then` is called with the answer of the server. */
  send(path, body, then) {
    const name = crypto.getRandomValues(new Uint32Array(4)).reduce((text, part) => text + part.toString(16), "r-");
    this.waiting.push({ path, body: { ...body, request: name } });
    if (then) this.confirmed.set(name, then);
    this.save();
    if (!this.running) this.run();
    return name;
  }

  save() {
    sessionStorage.setItem(KEPT, JSON.stringify(this.waiting));
    this.onChange(this.waiting.length);
  }

  async run() {
    this.running = true;
    let wait = FIRST_PAUSE;
    while (this.waiting.length) {
      const { path, body } = this.waiting[0];
      try {
        const answer = await post(path, body);
        this.confirm(body.request, answer);
        wait = FIRST_PAUSE;
      } catch (error) {
        const isFinal = error instanceof Refused && error.status < 500 && error.status !== 401;
        if (error instanceof Refused) this.onRefusal(error.message);
        if (isFinal) this.confirm(body.request, null);
        else {
          await pause(wait);
          wait = Math.min(2 * wait, LONGEST_PAUSE);
        }
      }
    }
    this.running = false;
  }

  confirm(name, answer) {
    this.waiting.shift();
    const then = this.confirmed.get(name);
    this.confirmed.delete(name);
    this.save();
    if (then && answer) then(answer);
  }
}
