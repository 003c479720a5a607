// Classes as buttons with keys, and what the model guesses of the particle that is shown.

import { thumbnail } from "./viewer.js";

const COLORS = 8, LAST_KEY = 9;

export const colorOf = (number) => `var(--c${number % COLORS})`;

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

/** Buttons for all classes, and junk at the end where that is wanted; keys are shown for the first nine. */
export const showClasses = (place, classes, chosen, withJunk = false) => {
  const buttons = classes.map((one, k) => {
    const name = element("span", { className: "name", textContent: one.name });
    const count = element("span", { className: "count", textContent: one.count });
    const key = element("kbd", { textContent: k < LAST_KEY ? k + 1 : "" });
    const button = element("button", { type: "button" }, key, name, count);
    button.style.setProperty("--color", colorOf(one.color));
    button.setAttribute("aria-label", `${one.name}, ${one.count} labeled${k < LAST_KEY ? `, key ${k + 1}` : ""}`);
    button.addEventListener("click", () => chosen("label", one.name));
    return button;
  });
  if (withJunk) {
    const button = element("button", { type: "button" }, element("kbd", { textContent: "J" }), element("span", { className: "name", textContent: "junk" }));
    button.addEventListener("click", () => chosen("junk", ""));
    buttons.push(button);
  }
  const focused = [...place.children].indexOf(document.activeElement);
  place.replaceChildren(...buttons);
  if (focused >= 0 && buttons[focused]) buttons[focused].focus();
};

/** The best guesses as bars; what is not guessed says why. */
export const showGuess = (place, item, classes, learning) => {
  if (!item || !item.guesses.length) {
    const why = learning && learning.done < learning.total
      ? `looking at all boxes: ${learning.done.toLocaleString("en")} of ${learning.total.toLocaleString("en")}`
      : "guesses begin with five labels of two classes";
    place.replaceChildren(element("p", { className: "muted", textContent: `No guess yet; ${why}` }));
    return;
  }
  const colors = new Map(classes.map((one) => [one.name, colorOf(one.color)]));
  const bars = item.guesses.slice(0, 3).map(({ name, probability }, k) => {
    const bar = element("i");
    const row = element("div", { className: k ? "bar" : "bar best" },
      element("span", { className: "name", textContent: name }), element("span", { className: "track" }, bar),
      element("span", { className: "value", textContent: `${Math.round(100 * probability)} %` }));
    bar.style.width = `${100 * probability}%`;
    row.style.setProperty("--color", colors.get(name) || "var(--muted)");
    return row;
  });
  place.replaceChildren(element("h3", { textContent: item.mine ? `You said ${item.mine}; the model says` : "The model guesses" }), ...bars);
};

/** The nearest labeled particles as small pictures. */
export const showExamples = (place, item, classes, queue) => {
  const colors = new Map(classes.map((one) => [one.name, colorOf(one.color)]));
  const shown = item ? item.examples : [], told = JSON.stringify(shown);
  if (place.dataset.shown === told) return; // drawn already, and drawing it again would flicker
  place.dataset.shown = told;
  const pictures = shown.map(({ row, name }) => {
    const canvas = element("canvas");
    canvas.setAttribute("aria-hidden", "true");
    queue.box(row).then((volume) => thumbnail(canvas, volume, queue.sigma()), () => {});
    const figure = element("figure", {}, canvas, element("figcaption", { textContent: name }));
    figure.style.setProperty("--color", colors.get(name) || "var(--muted)");
    return figure;
  });
  place.replaceChildren(...(pictures.length ? [element("h3", { textContent: "Most alike among the labeled" }), element("div", { className: "sheet" }, ...pictures)] : []));
};
