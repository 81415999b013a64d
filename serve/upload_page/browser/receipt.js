// The page of a receipt: shows what goes on without being asked for anew.

import { outcome } from "./card.js";
import { make, show } from "./dom.js";
import { follow } from "./follow.js";
import { describe, ofPerson } from "./problem.js";
import { Steps } from "./steps.js";

const root = document.querySelector(".headrace-receipt");
const run = root.querySelector(".headrace-run");
const end = root.querySelector(".headrace-end");
const said = document.querySelector(".headrace-said");

async function watch() {
  const steps = new Steps(run);
  const wasUnderWay = root.dataset.state !== "published";
  if (wasUnderWay) {
    run.hidden = false;
    show(end);
  }
  try {
    await follow(root.dataset.receipt, {
      steps,
      onLive: (receipt, regions) => {
        steps.finish();
        show(end, ...outcome(receipt, regions, { brief: !wasUnderWay }));
      },
    });
    if (wasUnderWay) said.textContent = "It is live.";
  } catch (problem) {
    if (problem instanceof Error) throw problem;
    run.hidden = true;
    const elsewhere = ofPerson(problem).hint.includes("More options")
      ? make("p", {}, "That is on the ", make("a", { href: "/ingest" }, "upload page"), ".")
      : null;
    show(end, make("div", { class: "headrace-problem" }, ...describe(problem), elsewhere));
    said.textContent = problem.title;
  }
}

if (root.dataset.state !== "failed") watch();
