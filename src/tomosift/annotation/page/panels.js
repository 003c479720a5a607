// Dialogs: a new class, going to a particle, labeling a lasso, finishing, help.

import { showClasses } from "./palette.js";
import { getJson, post } from "./server.js";
import { thumbnail } from "./viewer.js";

const byId = (id) => document.getElementById(id);
const PICTURES = 12, MAX_LASSO_ROWS = 5000;

export const prepareDialogs = () => {
  for (const dialog of document.querySelectorAll("dialog")) {
    for (const button of dialog.querySelectorAll(".close")) button.addEventListener("click", () => dialog.close());
  }
};

export const isOpen = () => Boolean(document.querySelector("dialog[open]"));

export const enterClass = (annotator, onAdd) => {
  const dialog = byId("class-dialog"), name = byId("class-name"), fault = byId("class-fault");
  name.value = fault.textContent = "";
  dialog.querySelector("form").onsubmit = async (event) => {
    event.preventDefault();
    try {
      await post("/api/class", { annotator, name: name.value.trim() });
      dialog.close();
      onAdd(name.value.trim());
    } catch (error) {
      fault.textContent = error.message;
    }
  };
  dialog.showModal();
  name.focus();
};

export const findParticle = (onOpen) => {
  const dialog = byId("find-dialog"), text = byId("find-text"), found = byId("found");
  let rows = [], searches = 0;
  text.value = "";
  found.replaceChildren();
  const open = (row) => { dialog.close(); onOpen(row); };
  text.oninput = async () => {
    const number = ++searches;
    const answer = text.value.trim() ? await getJson("/api/search", { text: text.value.trim() }).catch(() => []) : [];
    if (number !== searches) return; // a later letter has started another search
    rows = answer;
    found.replaceChildren(...answer.map(({ row, particle_id: name }) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: `${row + 1}  ${name}` });
      button.addEventListener("click", () => open(row));
      const line = document.createElement("li");
      line.append(button);
      return line;
    }));
  };
  dialog.querySelector("form").onsubmit = (event) => {
    event.preventDefault();
    if (rows.length) open(rows[0].row);
  };
  dialog.showModal();
  text.focus();
};

/** Show thumbnails of some particles and choose the class of all; closing the dialog labels nothing. */
export const confirmLasso = (rows, classes, queue, onChoose, onClose) => {
  const dialog = byId("lasso-dialog"), sheet = byId("lasso-pictures"), tooMany = rows.length > MAX_LASSO_ROWS;
  byId("lasso-title").textContent = tooMany
    ? `${rows.length.toLocaleString("en")} particles are more than the ${MAX_LASSO_ROWS.toLocaleString("en")} that go at once`
    : `Label ${rows.length.toLocaleString("en")} particles at once`;
  const step = Math.max(1, Math.floor(rows.length / PICTURES));
  sheet.replaceChildren(...rows.filter((_, k) => k % step === 0).slice(0, PICTURES).map((row) => {
    const canvas = document.createElement("canvas");
    queue.fetchVolume(row).then((volume) => thumbnail(canvas, volume, queue.sigma()), () => {});
    const figure = document.createElement("figure");
    figure.append(canvas);
    return figure;
  }));
  const choose = (kind, name) => { dialog.close(); onChoose(kind, name); };
  showClasses(byId("lasso-classes"), tooMany ? [] : classes, choose, !tooMany);
  dialog.onclose = onClose;
  dialog.onkeydown = (event) => {
    const entry = classes[Number(event.key) - 1];
    if (tooMany || event.ctrlKey || event.metaKey || event.altKey) return;
    if (entry) choose("label", entry.name);
    else if (event.key.toLowerCase() === "j") choose("junk", "");
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  dialog.showModal();
};

export const showFinish = async (state, annotator) => {
  const dialog = byId("finish-dialog"), exported = byId("exported");
  const parts = state.classes.filter((one) => one.count).map((one) => `${one.count} ${one.name}`);
  if (state.junk) parts.push(`${state.junk} junk`);
  byId("finish-counts").textContent = parts.length ? `Labeled: ${parts.join(", ")}.` : "Nothing is labeled yet.";
  exported.textContent = "";
  byId("export").onclick = async () => {
    try {
      const summary = await post("/api/export", { annotator });
      const total = Object.values(summary.counts).reduce((a, b) => a + b, 0);
      const ties = summary.ties ? `; ${summary.ties} ties between annotators are left out` : "";
      exported.textContent = `${total} labels are in ${summary.table}${ties}`;
    } catch (error) {
      exported.textContent = error.message;
    }
  };
  dialog.showModal();
  const { commands } = await getJson("/api/finish");
  byId("commands").replaceChildren(...commands.map(({ purpose, command, next }) => {
    const part = document.createElement("section");
    const title = Object.assign(document.createElement("h3"), { textContent: purpose });
    const code = Object.assign(document.createElement("pre"), { textContent: next ? `${command}\n${next}` : command, tabIndex: 0 });
    part.append(title, code);
    return part;
  }));
};
