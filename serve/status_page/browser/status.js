// Shows what is new as it comes: the reader tells that there is something, and renders the page.

const AT_MOST_EVERY_MS = 1000;
const PERSONAL_EVERY_MS = 10000; // uploads change without a new generation
const STATUS = "/-/headrace";
const PERSONAL = "/ingest/status";
const EVENTS = "/-/headrace/events";

const main = document.querySelector("main[data-version]");
const lost = main.querySelector(".headrace-lost");
const said = main.querySelector(".headrace-said");
let page = location.pathname;
let version = main.dataset.version;
let wanted = version;
let busy = false;
let stream = null;

async function load(path) {
  const answer = await fetch(path, { headers: { Accept: "text/html", "Headrace-If-Known": "1" } });
  const text = await answer.text(); // also of a refusal: it holds a connection until it is read
  if (answer.status !== 200) return null;
  const found = new DOMParser().parseFromString(text, "text/html");
  return found.querySelector("main[data-version]");
}

function show(found) {
  const before = Number(main.querySelector("[data-generation]")?.dataset.generation ?? 0);
  for (const part of found.querySelectorAll("[data-part]")) {
    const old = main.querySelector(`[data-part="${part.dataset.part}"]`);
    if (plain(old) === plain(part)) continue;
    const focused = old.contains(document.activeElement) && document.activeElement.getAttribute("href");
    const open = old.querySelectorAll("details[open]").length > 0;
    old.replaceWith(part);
    if (focused) part.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
    if (open) for (const details of part.querySelectorAll("details")) details.open = true;
  }
  for (const row of main.querySelectorAll("[data-generation]")) {
    if (Number(row.dataset.generation) > before) row.classList.add("headrace-new");
  }
  const newest = main.querySelector("[data-generation]");
  if (newest?.classList.contains("headrace-new")) {
    said.textContent = `Generation ${newest.dataset.generation} is published.`;
  }
  version = found.dataset.version;
  document.title = document.title.replace(/Status: .*/, `Status: ${main.querySelector("h1").textContent}`);
  document.dispatchEvent(new Event("headrace-shown"));
}

// Ages are written into the page that is shown, and not into the one that came.
function plain(part) {
  const copy = part.cloneNode(true);
  for (const time of copy.querySelectorAll("time")) time.textContent = "";
  return copy.outerHTML;
}

async function refresh({ always = false } = {}) {
  if (busy || document.hidden || (!always && wanted === version)) return;
  busy = true;
  try {
    let found = await load(page);
    if (!found && page === PERSONAL) {
      page = STATUS; // the session has ended
      found = await load(page);
    }
    if (found) show(found);
  } catch {
    // The reader is gone: the stream of events says so.
  }
  setTimeout(() => {
    busy = false;
    refresh();
  }, AT_MOST_EVERY_MS);
}

function listen() {
  stream = new EventSource(EVENTS);
  stream.addEventListener("open", () => {
    lost.hidden = true;
  });
  stream.addEventListener("message", (event) => {
    wanted = event.data;
    refresh();
  });
  stream.addEventListener("error", () => {
    if (lost.hidden) sayLost();
    if (stream.readyState === EventSource.CLOSED) setTimeout(restart, 2000);
  });
}

function sayLost() {
  const since = document.createElement("time");
  since.className = "headrace-ago";
  since.dateTime = new Date().toISOString();
  lost.replaceChildren("This reader does not answer. What you see is from ", since, ". The page goes on by itself when the reader is back.");
  lost.hidden = false;
  document.dispatchEvent(new Event("headrace-shown"));
}

function restart() {
  stream?.close();
  if (!document.hidden) listen();
}

// A page that nobody looks at keeps no reader awake.
document.addEventListener("visibilitychange", restart);

// Who has signed in with a token is known below /ingest alone.
async function findPersonal() {
  if (!("mayBeKnown" in main.dataset)) return "known" in main.dataset;
  const found = await load(PERSONAL);
  if (!found) return false;
  page = PERSONAL;
  show(found);
  return true;
}

restart();
if (await findPersonal()) setInterval(() => refresh({ always: true }), PERSONAL_EVERY_MS);
