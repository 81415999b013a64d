// The upload page: files are dropped or chosen, looked at, and sent. Without this script the page
// is a plain form.

import { Card } from "./card.js";
import { count } from "./dom.js";
import { follow } from "./follow.js";
import { send } from "./transfer.js";

const AT_ONCE = 2; // files on their way

const form = document.querySelector("form.headrace-upload");
const input = form.querySelector("#headrace-files");
const drop = form.querySelector(".headrace-drop");
const list = form.querySelector(".headrace-cards");
const button = form.querySelector(".headrace-buttons button");
const template = document.querySelector("#headrace-card");
const cards = new Set();
const queue = [];
let running = 0;

function say(words) {
  form.querySelector(".headrace-said").textContent = words;
}

// What the page's address and the plain form say about where files go.
function defaults() {
  return { database: form.querySelector("#headrace-database").value };
}

function add(files) {
  for (const file of files) {
    const card = new Card(file, template, defaults(), {
      say,
      onRemove: remove,
      onChange: refresh,
    });
    cards.add(card);
    list.append(card.element);
    card.look();
  }
  input.value = "";
  refresh();
}

function remove(card) {
  card.looking?.abort();
  cards.delete(card);
  card.element.remove();
  say(`${card.file.name} was removed.`);
  refresh();
  input.focus();
}

function refresh() {
  for (const card of cards) card.warn([...cards].find((other) => card.displaces(other)));
  const waiting = [...cards].filter((card) => card.ready).length;
  button.hidden = waiting === 0;
  button.textContent = waiting > 1 ? `Upload ${count(waiting, "file")}` : "Upload";
}

function begin(card) {
  const options = card.options;
  card.state = "queued";
  queue.push([card, options]);
  refresh();
  while (running < AT_ONCE && queue.length) run(...queue.shift());
}

async function run(card, options) {
  running += 1;
  card.begin();
  say(`${card.file.name} is being sent.`);
  try {
    const receipt = await send(card.file, options, {
      onProgress: (bytes, ofBytes) => card.steps.sent(bytes, ofBytes),
      onCut: () => card.steps.note("sending", "The connection was cut: trying again…"),
    });
    say(`${card.file.name} has arrived.`);
    await follow(receipt, { steps: card.steps, onLive: (...found) => card.live(...found) });
  } catch (problem) {
    if (problem instanceof Error) throw problem;
    card.fail(problem, () => refresh());
  } finally {
    running -= 1;
    if (queue.length) run(...queue.shift());
  }
}

function watchDrops() {
  let depth = 0;
  const over = (change) => {
    depth = Math.max(0, depth + change);
    drop.classList.toggle("headrace-over", depth > 0);
  };
  drop.addEventListener("dragenter", () => over(1));
  drop.addEventListener("dragleave", () => over(-1));
  for (const name of ["dragover", "drop"]) {
    // Also beside the area: else the browser would open the file, and leave the page.
    document.addEventListener(name, (event) => event.preventDefault());
  }
  document.addEventListener("drop", (event) => {
    over(-depth);
    if (event.dataTransfer?.files.length) add(event.dataTransfer.files);
  });
}

for (const each of form.querySelectorAll(".headrace-if-script")) each.hidden = false;
for (const field of form.querySelectorAll(".headrace-all [name]")) field.disabled = true;
input.required = false;
input.addEventListener("change", () => add([...input.files]));
watchDrops();
form.addEventListener("submit", (event) => {
  event.preventDefault();
  for (const card of [...cards]) if (card.ready) begin(card);
});
// Datasette closes every <details> when something beside it is clicked: not our options.
form.addEventListener("click", (event) => {
  event.stopPropagation();
  for (const menu of document.querySelectorAll("nav details[open]")) menu.open = false;
});
refresh();
document.body.classList.add("headrace-scripted");
if (input.files.length) add([...input.files]); // chosen before this script was there
