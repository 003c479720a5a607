"use strict";
(() => {
  const source = document.getElementById("map-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const plot = document.getElementById("map-plot");
  const marks = [...document.getElementById("map-points").children];
  const cursor = document.getElementById("map-cursor");
  const detail = document.getElementById("map-detail");
  const buttons = [...document.querySelectorAll("#map-legend button")];
  const truth = document.getElementById("map-truth");
  const errors = document.getElementById("map-wrong");
  const isWrong = (k) => data.true[k] >= 0 && data.true[k] !== data.predicted[k];
  const displayedClass = (k) => (truth && truth.checked ? data.true[k] : data.predicted[k]);
  const visible = (k) => !marks[k].classList.contains("faint");
  let current = -1, held = false;

  // Names come from files: they are only ever set as text.
  const add = (parent, tag, text) => {
    const child = document.createElement(tag);
    if (text !== undefined) child.textContent = text;
    return parent.appendChild(child);
  };

  const show = (k) => {
    if (k < 0 || k === current) return;
    current = k;
    cursor.setAttribute("cx", data.x[k]);
    cursor.setAttribute("cy", data.y[k]);
    cursor.removeAttribute("hidden");
    detail.replaceChildren();
    if (data.edge) {
      const thumb = add(detail, "div");
      thumb.className = "thumb";
      thumb.setAttribute("role", "img");
      thumb.setAttribute("aria-label", "central xy slab");
      const rows = Math.ceil(data.x.length / data.columns);
      const part = (index, total) => (total > 1 ? (100 * index) / (total - 1) : 0) + "%";
      thumb.style.backgroundSize = `${100 * data.columns}% ${100 * rows}%`;
      thumb.style.backgroundPosition = `${part(k % data.columns, data.columns)} ${part(Math.floor(k / data.columns), rows)}`;
    }
    const list = add(detail, "dl");
    const row = (name, value) => { add(list, "dt", name); add(list, "dd", value); };
    row("predicted", (data.true[k] < 0 ? "" : isWrong(k) ? "✗ " : "✓ ") + data.names[data.predicted[k]]);
    if (data.true[k] >= 0) row("true", data.names[data.true[k]]);
    row("confidence", data.confidence[k].toFixed(2));
    row("particle", data.id[k]);
    row("tomogram", data.tomogram[k]);
  };

  const nearest = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse());
    let best = -1, distance = 30 * 30;
    for (let k = 0; k < data.x.length; k++) {
      const d = (data.x[k] - point.x) ** 2 + (data.y[k] - point.y) ** 2;
      if (d < distance && visible(k)) { distance = d; best = k; }
    }
    return best;
  };

  const repaint = () => {
    const alone = buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => Number(b.dataset.class));
    marks.forEach((mark, k) => {
      const label = displayedClass(k);
      const faint = (alone.length && !alone.includes(label)) || (errors && errors.checked && !isWrong(k));
      mark.setAttribute("class", `c${label < 0 ? 7 : label % 8}${isWrong(k) ? " wrong" : ""}${faint ? " faint" : ""}`);
      mark.setAttribute("href", `#mark${label < 0 ? 0 : (label + Math.floor(label / 8)) % 8}`);
    });
  };

  plot.addEventListener("pointermove", (event) => { if (!held) show(nearest(event)); });
  plot.addEventListener("click", (event) => { const k = nearest(event); held = k >= 0; current = -1; show(k); });
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") { held = false; return; }
    if (!step) return;
    event.preventDefault();
    held = true;
    const from = current < 0 ? [480, 300] : [data.x[current], data.y[current]];
    let best = -1, cost = Infinity;
    for (let k = 0; k < data.x.length; k++) {
      const dx = data.x[k] - from[0], dy = data.y[k] - from[1];
      const along = dx * step[0] + dy * step[1], across = Math.abs(dx * step[1]) + Math.abs(dy * step[0]);
      if (k !== current && along > 0 && visible(k) && along + 2 * across < cost) { cost = along + 2 * across; best = k; }
    }
    show(best);
  });
  buttons.forEach((button) => button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    repaint();
  }));
  [truth, errors].forEach((box) => box && box.addEventListener("change", repaint));
})();
