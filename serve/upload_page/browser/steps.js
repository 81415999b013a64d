// The bars of one upload: sending, and each step after it.

import { count, size } from "./dom.js";

const ORDER = ["sending", "converting", "merging", "replicating", "live"];

export class Steps {
  constructor(root) {
    this.items = new Map();
    for (const item of root.querySelectorAll("[data-step]")) this.items.set(item.dataset.step, item);
  }

  // All before a step are done, the step itself goes on, those after it wait.
  reach(step) {
    const at = ORDER.indexOf(step);
    for (const [name, item] of this.items) {
      const place = ORDER.indexOf(name);
      item.dataset.is = place < at ? "done" : place === at ? "on" : "waiting";
      const bar = item.querySelector("progress");
      if (place < at) bar.value = bar.max = 1;
      else if (place === at) bar.removeAttribute("value");
    }
  }

  sent(bytes, ofBytes) {
    this.#bar("sending", bytes, ofBytes, `${size(bytes)} of ${size(ofBytes)}`);
  }

  progress(step, progress) {
    const words = progress.rows ? count(progress.rows, "row") : "";
    this.#bar(step, progress.bytes, progress.of_bytes, words);
  }

  note(step, words) {
    const item = this.items.get(step);
    if (item) item.querySelector(".headrace-count").textContent = words;
  }

  finish() {
    for (const item of this.items.values()) {
      item.dataset.is = "done";
      const bar = item.querySelector("progress");
      bar.value = bar.max = 1;
    }
  }

  #bar(step, done, of, words) {
    const item = this.items.get(step);
    if (!item) return;
    const bar = item.querySelector("progress");
    if (of) {
      bar.max = of;
      bar.value = Math.min(done, of);
    } else {
      bar.removeAttribute("value");
    }
    item.querySelector(".headrace-count").textContent = words;
  }
}
