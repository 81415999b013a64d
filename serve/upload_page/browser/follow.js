// What becomes of an upload that has arrived, as the server tells it, until it can be read here.

import { count } from "./dom.js";

const AGAIN_MS = 1500; // until a stream that was refused is asked for anew
const LOOK_MS = [100, 100, 200, 300, 500, 1000]; // between looks at what this reader serves
const OTHERS_MS = 120000; // for other regions, once it is live here
const STEPS = {
  received: "converting",
  converting: "converting",
  merging: "merging",
  replicating: "replicating",
  published: "live",
};

// Resolves when the reader behind this page shows it; throws a problem document if it failed.
// `onLive` gets the receipt and the regions, then and whenever there is one more.
export function follow(id, { steps, onLive }) {
  return new Promise((resolve, reject) => {
    let stream;
    let state = "received";
    let receipt = null;
    let regions = [];
    let here = false;
    let looking = false;

    const close = () => stream.close();
    const tell = () => here && onLive(receipt, regions);

    async function look() {
      if (looking) return;
      looking = true;
      for (let turn = 0; !(await isServed(receipt.generation)); turn += 1) {
        await wait(LOOK_MS[Math.min(turn, LOOK_MS.length - 1)]);
      }
      here = true;
      rememberToWait(receipt.generation);
      tell();
      setTimeout(close, OTHERS_MS);
      resolve();
    }

    function take(found) {
      state = found.state;
      if (state === "failed") {
        close();
        reject(found.receipt.error);
        return;
      }
      steps.reach(STEPS[state]);
      if (found.receipt && state === "published") {
        receipt = found.receipt;
        const rows = receipt.tables.reduce((sum, table) => sum + table.rows, 0);
        steps.note("converting", count(rows, "row"));
        regions = Object.keys(receipt.live);
        look();
      }
    }

    function open() {
      stream = new EventSource(`/ingest/receipts/${id}/events`);
      const on = (name, act) => {
        stream.addEventListener(name, (event) => act(JSON.parse(event.data)));
      };
      on("state", take);
      on("progress", (progress) => steps.progress(STEPS[state], progress));
      on("live", (found) => {
        regions = Object.keys(found.live);
        tell();
      });
      on("end", (found) => {
        regions = Object.keys(found.live);
        tell();
        close();
      });
      stream.addEventListener("error", () => {
        // A stream that broke off comes back by itself; one that was refused does not.
        if (stream.readyState === EventSource.CLOSED) setTimeout(open, AGAIN_MS);
      });
    }

    open();
  });
}

async function isServed(generation) {
  try {
    const response = await fetch("/-/headrace.json");
    return response.ok && (await response.json()).generation >= generation;
  } catch {
    return false;
  }
}

// Another reader may answer the next request: it waits until it shows this, too. Answers to other
// uploads set the same cookie (serve/arrivals.py); of several the newest counts.
function rememberToWait(generation) {
  const [, before = 0] = document.cookie.match(/(?:^|; )headrace_min_generation=(\d+)/) ?? [];
  if (generation <= before) return;
  document.cookie = `headrace_min_generation=${generation}; path=/; max-age=600; samesite=lax`;
}

function wait(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
