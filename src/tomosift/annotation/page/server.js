// Talks to the server. Answers leave through an outbox: one after the other, again and again until they are on its disk.

const KEY = "tomosift-token", KEPT = "tomosift-outbox";
const FIRST_PAUSE = 300, LONGEST_PAUSE = 4000;

const token = (() => {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname); // so that it does not stay in the history of the browser
  }
  return given || sessionStorage.getItem(KEY) || "";
})();

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

const ask = async (path, options = {}) => {
  const headers = { Authorization: `Bearer ${token}`, ...options.headers };
  const answer = await fetch(path, { ...options, headers, cache: "no-store" });
  if (answer.ok) return answer;
  const detail = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, detail.detail || `the server answered ${answer.status}`);
};

export const getJson = async (path, query = {}) => {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) for (const one of [value].flat()) words.append(name, one);
  return (await ask(`${path}?${words}`)).json();
};

export const getBytes = async (path) => {
  const answer = await ask(path);
  return { bytes: new Uint8Array(await answer.arrayBuffer()), headers: answer.headers };
};

export const getPicture = async (path) => {
  const answer = await ask(path);
  return { address: URL.createObjectURL(await answer.blob()), headers: answer.headers };
};

export const post = async (path, body) => {
  const headers = { "Content-Type": "application/json" };
  return (await ask(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
};

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Sends answers in order. What is not confirmed is kept over a reload; the server knows what it has had already. */
export class Outbox {
  constructor(changed, refused) {
    this.changed = changed;
    this.refused = refused;
    this.waiting = JSON.parse(sessionStorage.getItem(KEPT) || "[]");
    this.confirmed = new Map();
    this.running = false;
    if (this.waiting.length) this.run();
  }

  get count() { return this.waiting.length; }

  /** Rows that are answered but perhaps not known to the server yet. */
  get rows() { return this.waiting.flatMap(({ body }) => (body.row === undefined ? [] : [body.row])); }

  /** The request's name; `then` gets what the server says. */
  send(path, body, then) {
    const request = crypto.getRandomValues(new Uint32Array(4)).reduce((name, part) => name + part.toString(16), "r-");
    this.waiting.push({ path, body: { ...body, request } });
    if (then) this.confirmed.set(request, then);
    this.keep();
    if (!this.running) this.run();
    return request;
  }

  keep() {
    sessionStorage.setItem(KEPT, JSON.stringify(this.waiting));
    this.changed(this.waiting.length);
  }

  async run() {
    this.running = true;
    let wait = FIRST_PAUSE;
    while (this.waiting.length) {
      const { path, body } = this.waiting[0];
      try {
        const said = await post(path, body);
        this.done(body.request, said);
        wait = FIRST_PAUSE;
      } catch (error) {
        const hopeless = error instanceof Refused && error.status < 500 && error.status !== 401;
        if (error instanceof Refused) this.refused(error.message);
        if (hopeless) this.done(body.request, null);
        else {
          await pause(wait);
          wait = Math.min(2 * wait, LONGEST_PAUSE);
        }
      }
    }
    this.running = false;
  }

  done(request, said) {
    this.waiting.shift();
    const then = this.confirmed.get(request);
    this.confirmed.delete(request);
    this.keep();
    if (then && said) then(said);
  }
}
