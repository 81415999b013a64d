// What a file would become: its first megabyte is read on the server, and nothing is kept.

import { count, make } from "./dom.js";
import { away, read } from "./problem.js";

const HEAD_BYTES = 1000 * 1000;
const KEPT_SHOWN = 10; // columns

// Gives {preview} or {problem}; `signal` ends it.
export async function ask(file, options, signal) {
  const query = new URLSearchParams({ ...options, filename: file.name });
  if (file.size <= HEAD_BYTES) query.set("complete", "1");
  const headers = file.type ? { "Content-Type": file.type } : {};
  let response;
  try {
    const body = file.slice(0, HEAD_BYTES);
    response = await fetch(`/ingest/preview?${query}`, { method: "POST", body, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return { problem: away };
  }
  return response.ok ? { preview: await response.json() } : { problem: await read(response) };
}

export function facts(preview, fileSize) {
  const parts = [preview.format, preview.encoding, preview.delimiter && `${preview.delimiter} between fields`];
  return [...parts.filter(Boolean), fileSize].join(" · ");
}

// One table as it would be made, with the types of its columns.
export function draw(table, preview) {
  const head = make("tr", {});
  for (const column of table.columns) {
    const type = make("span", { class: "headrace-type" }, column.type.toLowerCase() || "any");
    head.append(make("th", { scope: "col" }, column.name, " ", type));
  }
  const body = make("tbody");
  for (const row of table.rows) {
    body.append(make("tr", {}, ...row.map(cell)));
  }
  const caption = `First rows of ${table.name}`;
  const drawn = make("table", { class: "headrace-table" }, make("thead", {}, head), body);
  const kept = table.kept_columns;
  return [
    make("h3", {}, ...fate(table, preview)),
    kept.length ? make("p", { class: "headrace-help" }, ...missing(kept, preview.mode)) : null,
    make("div", { class: "headrace-scroll", tabindex: "0", role: "region", "aria-label": caption }, drawn),
  ];
}

// What becomes of columns of the table that the file does not have.
function missing(names, mode) {
  const fates = { replace: "stay, and are empty", append: "are empty in its rows", upsert: "are empty in new rows" };
  const shown = names.slice(0, KEPT_SHOWN).join(", ");
  const more = names.length > KEPT_SHOWN ? ` and ${names.length - KEPT_SHOWN} more` : "";
  return [`Columns that the file does not have ${fates[mode]}: `, make("code", {}, shown), more];
}

function cell(value) {
  if (value === null) return make("td", { class: "headrace-null" }, "NULL");
  const kind = typeof value === "number" ? { class: "headrace-number" } : {};
  return make("td", kind, String(value));
}

function fate(table, preview) {
  const name = make("code", {}, `${preview.database}/${table.name}`);
  const there = table.rows_there;
  if (there === null) return ["New table ", name];
  const words = {
    replace: ["Replaces ", name],
    append: ["Adds rows to ", name],
    upsert: ["Adds or changes rows of ", name],
    create: ["Cannot be made, because it is there: ", name],
  }[preview.mode];
  return [...words, ` (${count(there, "row")} now)`];
}
