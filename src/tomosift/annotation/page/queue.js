// The next queries: some are always fetched ahead with their subtomograms, so that the next one is shown at once.

import { getJson } from "./server.js";
import { Volume } from "./volume.js";

const AHEAD = 6, KEPT = 3, MAX_VOLUMES = 200, MAX_HELD_ROWS = 64;

export class Queue {
  constructor(annotator, unsentRows, sigma, onChange) {
    this.annotator = annotator;
    this.unsentRows = unsentRows; // rows whose answers may not have reached the server
    this.sigma = sigma;
    this.onChange = onChange; // called with whether the queue was empty before
    this.items = [];
    this.volumes = new Map();
    this.answered = new Set();
    this.round = -1;
    this.isFetching = false;
    this.exhausted = false;
  }

  get current() { return this.items[0] || null; }

  /** Fetch the subtomogram of a row, once; of many the oldest are dropped. Once loaded it is in `volume`. */
  fetchVolume(row) {
    let request = this.volumes.get(row);
    if (!request) {
      request = Volume.fetch(row).then((volume) => volume.smooth(this.sigma()));
      request.catch(() => this.volumes.delete(row));
      request.then((volume) => { request.volume = volume; }, () => {});
      this.volumes.set(row, request);
      if (this.volumes.size > MAX_VOLUMES) this.volumes.delete(this.volumes.keys().next().value);
    }
    return request;
  }

  /** Continue with the next particle. */
  advance() {
    const item = this.items.shift();
    if (item) this.answered.add(item.row);
    this.fill();
  }

  /** Show this particle now, and the current one after it. */
  putFirst(item) {
    this.answered.delete(item.row);
    this.items = [item, ...this.items.filter((other) => other.row !== item.row)];
    this.fetchVolume(item.row);
  }

  /** Fetch more when few are left. */
  fill() { return this.items.length < AHEAD ? this.fetch([]) : undefined; }

  /** After a round of learning: update the predictions, and replace all but the next few particles. */
  renew() { return this.fetch(this.items.slice(KEPT).map((item) => item.row)); }

  async fetch(dropped) {
    if (this.isFetching) return;
    this.isFetching = true;
    const kept = this.items.map((item) => item.row).filter((row) => !dropped.includes(row));
    try {
      const have = [...new Set([...kept, ...this.unsentRows()])].slice(-MAX_HELD_ROWS);
      const answer = await getJson("/api/next", { annotator: this.annotator(), count: 8, have });
      // The current particles stay until the subtomograms of the new ones are loaded.
      const requests = answer.next.map((item) => this.fetchVolume(item.row));
      if (this.items.length) await Promise.allSettled(requests);
      const renewed = new Map(answer.have.map((item) => [item.row, item]));
      // The annotator may have answered meanwhile: the displayed particle stays, and answered ones do not return.
      const staying = this.items.filter((item, k) => k === 0 || !dropped.includes(item.row));
      for (const item of staying) {
        const { predictions, examples } = renewed.get(item.row) || item;
        Object.assign(item, { predictions, examples });
      }
      const known = new Set(staying.map((item) => item.row));
      const wasEmpty = !this.items.length;
      this.items = [...staying, ...answer.next.filter(({ row }) => !known.has(row) && !this.answered.has(row))];
      this.round = answer.round;
      this.exhausted = !this.items.length;
      this.onChange(wasEmpty);
    } catch {
      // The next update of the state fetches again.
    } finally {
      this.isFetching = false;
    }
  }
}
