// Classes as buttons with keys, and the predictions for the displayed particle.

import { thumbnail } from "./viewer.js";

const COLORS = 8, LAST_KEY = 9;

export const colorOf = (number) => `var(--c${number % COLORS})`;

const element = (name, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
};

/** Show buttons for all classes, optionally with junk at the end; the first nine have keys. */
export const showClasses = (parent, classes, onChoose, withJunk = false) => {
  const buttons = classes.map((one, k) => {
    const name = element("span", { className: "name", textContent: one.name });
    const count = element("span", { className: "count", textContent: one.count });
    const key = element("kbd", { textContent: k < LAST_KEY ? k + 1 : "" });
    const button = element("button", { type: "button" }, key, name, count);
    button.style.setProperty("--color", colorOf(one.color));
    button.setAttribute("aria-label", `${one.name}, ${one.count} labeled${k < LAST_KEY ? `, key ${k + 1}` : ""}`);
    button.addEventListener("click", () => onChoose("label", one.name));
    return button;
  });
  if (withJunk) {
    const button = element("button", { type: "button" }, element("kbd", { textContent: "J" }), element("span", { className: "name", textContent: "junk" }));
    button.addEventListener("click", () => onChoose("junk", ""));
    buttons.push(button);
  }
  const focused = [...parent.children].indexOf(document.activeElement);
  parent.replaceChildren(...buttons);
  if (focused >= 0 && buttons[focused]) buttons[focused].focus();
};

/** Show the most probable classes as bars, or why there is no prediction. */
export const showPredictions = (parent, item, classes, learning) => {
  if (!item || !item.predictions.length) {
    const why = learning && learning.done < learning.total
      ? `embedded ${learning.done.toLocaleString("en")} of ${learning.total.toLocaleString("en")}`
      : "predictions start with five labels of two classes";
    parent.replaceChildren(element("p", { className: "muted", textContent: `No prediction yet; ${why}` }));
    return;
  }
  const colors = new Map(classes.map((one) => [one.name, colorOf(one.color)]));
  const bars = item.predictions.slice(0, 3).map(({ name, probability }, k) => {
    const bar = element("i");
    const row = element("div", { className: k ? "bar" : "bar best" },
      element("span", { className: "name", textContent: name }), element("span", { className: "track" }, bar),
      element("span", { className: "value", textContent: `${Math.round(100 * probability)} %` }));
    bar.style.width = `${100 * probability}%`;
    row.style.setProperty("--color", colors.get(name) || "var(--muted)");
    return row;
  });
  parent.replaceChildren(element("h3", { textContent: item.own_label ? `Your label is ${item.own_label}; the model predicts` : "The model predicts" }), ...bars);
};

/** Show the most similar labeled particles as thumbnails. */
export const showExamples = (parent, item, classes, queue) => {
  const colors = new Map(classes.map((one) => [one.name, colorOf(one.color)]));
  const shown = item ? item.examples : [], key = JSON.stringify(shown);
  if (parent.dataset.shown === key) return; // drawn already, and drawing it again would flicker
  parent.dataset.shown = key;
  const pictures = shown.map(({ row, name }) => {
    const canvas = element("canvas");
    canvas.setAttribute("aria-hidden", "true");
    queue.fetchVolume(row).then((volume) => thumbnail(canvas, volume, queue.sigma()), () => {});
    const figure = element("figure", {}, canvas, element("figcaption", { textContent: name }));
    figure.style.setProperty("--color", colors.get(name) || "var(--muted)");
    return figure;
  });
  parent.replaceChildren(...(pictures.length ? [element("h3", { textContent: "Most similar labeled particles" }), element("div", { className: "sheet" }, ...pictures)] : []));
};
