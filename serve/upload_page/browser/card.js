// One file: what it would become, how it is taken, and what becomes of it.

import { hopeless, quarantine } from "./advice.js";
import { count, make, show, size } from "./dom.js";
import * as preview from "./preview.js";
import { describe, ofPerson } from "./problem.js";
import { Steps } from "./steps.js";

const SETTLE_MS = 400; // after the last key, before a preview is asked for anew
const ADDING = ["append", "upsert"]; // modes in which a table has the rows of several files

let made = 0;

export class Card {
  // `say` tells screen readers; `onRemove` is called when nobody wants the file any more, `onChange`
  // when it can be sent, or cannot.
  constructor(file, template, defaults, { say, onRemove, onChange }) {
    this.file = file;
    this.state = "chosen";
    this.refused = false; // by the preview: as it is, it would be refused
    this.places = new Map(); // of its tables, as they are shown; SQLite's names have no capitals
    this.mode = "";
    this.say = say;
    this.onChange = onChange;
    made += 1;
    const copy = template.content.cloneNode(true);
    this.element = copy.firstElementChild;
    this.#giveIds(`card-${made}`);
    this.#find(".headrace-name").textContent = file.name;
    this.#find(".headrace-facts").textContent = `${size(file.size)} · being looked at…`;
    for (const [name, value] of Object.entries(defaults)) {
      const field = this.element.querySelector(`[name="${name}"]`);
      if (field) field.value = value;
    }
    const remove = this.#find(".headrace-remove");
    remove.setAttribute("aria-label", `Remove ${file.name}`);
    remove.addEventListener("click", () => onRemove(this));
    this.#find(".headrace-before").addEventListener("input", () => this.#lookSoon());
    this.steps = new Steps(this.#find(".headrace-steps"));
  }

  // What was asked for: only fields that say something, and that are for this format.
  get options() {
    const options = {};
    for (const field of this.element.querySelectorAll(".headrace-before [name]")) {
      const value = field.value.trim();
      if (value && !field.closest("[data-option]")?.hidden) options[field.name] = value;
    }
    return options;
  }

  async look() {
    this.looking?.abort();
    this.looking = new AbortController();
    const { signal } = this.looking;
    let found;
    try {
      found = await preview.ask(this.file, this.options, signal);
    } catch {
      return; // a newer look is on its way
    }
    if (signal.aborted || this.state !== "chosen") return;
    this.refused = found.problem?.status < 500;
    this.mode = found.preview?.mode;
    this.places = new Map(found.preview?.tables.map((table) => placeOf(table, found.preview)));
    if (found.problem) this.#showProblem(found.problem, `${this.file.name}: `);
    else this.#showPreview(found.preview);
    this.onChange();
  }

  get ready() {
    return this.state === "chosen" && !this.refused;
  }

  // Whether of this file and another one, not sent yet, only one would be in a table.
  displaces(other) {
    if (other === this || this.state !== "chosen" || other.state !== "chosen") return false;
    const share = [...this.places.keys()].some((place) => other.places.has(place));
    return share && !(ADDING.includes(this.mode) && ADDING.includes(other.mode));
  }

  warn(other) {
    const place = other && [...this.places.keys()].find((each) => other.places.has(each));
    const words = other && [
      `${other.file.name} goes to ${this.places.get(place)}, too: only one of the two would be there.`,
      " Name another table, or add the rows of both.",
    ];
    show(this.#find(".headrace-rival"), ...(words ?? []));
  }

  begin() {
    this.looking?.abort();
    this.state = "running";
    this.#find(".headrace-before").hidden = true;
    this.#find(".headrace-remove").hidden = true;
    this.#find(".headrace-problem").hidden = true;
    this.element.classList.remove("headrace-bad");
    this.#find(".headrace-run").hidden = false;
    this.steps.reach("sending");
  }

  fail(problem, again) {
    this.state = "failed";
    this.#find(".headrace-run").hidden = true;
    this.#showProblem(problem, `${this.file.name} was not uploaded: `);
    const retry = make("button", { type: "button" }, "Try again");
    retry.setAttribute("aria-label", `Try ${this.file.name} again`);
    retry.addEventListener("click", () => {
      this.state = "chosen";
      show(this.#find(".headrace-end"));
      this.#find(".headrace-before").hidden = false;
      this.#find(".headrace-remove").hidden = false;
      again(this);
    });
    show(this.#find(".headrace-end"), make("p", {}, retry));
  }

  // The link is there the moment that the reader behind this page shows the rows.
  live(receipt, regions) {
    const end = this.#find(".headrace-end");
    if (this.state !== "live") {
      this.state = "live";
      this.steps.finish();
      this.element.classList.add("headrace-good");
      this.say(`${this.file.name} is live.`);
    }
    show(end, ...outcome(receipt, regions));
  }

  #showPreview(found) {
    this.#find(".headrace-problem").hidden = true;
    this.#find(".headrace-before").hidden = false;
    this.element.classList.remove("headrace-bad");
    this.#find(".headrace-facts").textContent = preview.facts(found, size(this.file.size));
    const known = new Set(found.options);
    for (const option of this.element.querySelectorAll("[data-option]")) {
      option.hidden = !known.has(option.dataset.option);
    }
    const lines = found.warnings.map((warning) => make("li", {}, warning));
    show(this.#find(".headrace-warnings"), ...lines);
    const parts = found.tables.flatMap((table) => preview.draw(table, found));
    if (found.previewable === false) parts.push(make("p", {}, `There is no preview: ${found.reason}.`));
    if (found.more_tables) parts.push(make("p", {}, `… and ${count(found.more_tables, "more table")}.`));
    show(this.#find(".headrace-previews"), ...parts);
    this.#placeholders(found);
    const shape = found.tables.map((table) => `${table.name} with ${count(table.columns.length, "column")}`);
    this.say(`${this.file.name}: ${found.format}. ${shape.join(", ")}`);
  }

  #placeholders(found) {
    this.#find('[name="database"]').placeholder = found.database;
    if (found.tables.length === 1) this.#find('[name="table"]').placeholder = found.tables[0].name;
  }

  #showProblem(problem, before) {
    this.element.classList.add("headrace-bad");
    if (this.state === "chosen") {
      this.#find(".headrace-facts").textContent = size(this.file.size);
      show(this.#find(".headrace-previews"));
      show(this.#find(".headrace-warnings"));
      this.#find(".headrace-before").hidden = hopeless.includes(problem.code);
    }
    show(this.#find(".headrace-problem"), ...describe(problem), this.#wayOut(problem));
    const { title, detail } = ofPerson(problem);
    this.say(`${before}${title ? `${title}. ` : ""}${detail}`);
  }

  // A button for what the hint says, where one choice loads the file.
  #wayOut(problem) {
    const choice = this.#find('[name="on_bad_rows"]');
    if (this.state !== "chosen" || choice.value || !problem.hint?.includes(quarantine)) return null;
    const button = make("button", { type: "button" }, "Put bad rows in a table of their own");
    button.addEventListener("click", () => {
      choice.value = quarantine.split("=")[1];
      choice.closest("details").open = true;
      choice.focus();
      this.look();
    });
    return make("p", {}, button);
  }

  #lookSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), SETTLE_MS);
  }

  #giveIds(prefix) {
    for (const name of ["id", "for", "list", "aria-describedby"]) {
      for (const element of this.element.querySelectorAll(`[${name}^="card-"]`)) {
        element.setAttribute(name, element.getAttribute(name).replace(/^card/, prefix));
      }
    }
    const heading = this.#find(".headrace-name");
    heading.id = `${prefix}-name`;
    this.element.setAttribute("aria-labelledby", heading.id);
  }

  #find(selector) {
    return this.element.querySelector(selector);
  }
}

function placeOf(table, preview) {
  const { database } = preview;
  return [`${database}/${table.name.toLowerCase()}`, `${database}/${table.name}`];
}

// `brief` leaves out what the page of a receipt says anyway.
export function outcome(receipt, regions, { brief = false } = {}) {
  const link = make("a", { href: receipt.url }, receipt.url);
  const rows = receipt.tables.map((table) => `${table.name}: ${changes(table)}`);
  const more = [
    ...rows.map((row) => make("p", {}, row)),
    ...receipt.warnings.map((warning) => make("p", { class: "headrace-help" }, warning)),
    make("p", { class: "headrace-help" }, make("a", { href: `/ingest/receipts/${receipt.id}` }, "Receipt")),
  ];
  return [
    make("p", { class: "headrace-link" }, "Live: ", link),
    make("p", { class: "headrace-regions" }, `Regions: ${regions.join(", ") || "not told yet"}`),
    ...(brief ? [] : more),
  ];
}

function changes(table) {
  const parts = [count(table.rows, "row")];
  for (const word of ["added", "changed", "removed"]) {
    if (table[word]) parts.push(`${table[word].toLocaleString("en")} ${word}`);
  }
  return parts.join(", ");
}
