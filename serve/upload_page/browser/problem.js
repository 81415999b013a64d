// What is wrong, where, and what to do about it: an RFC 9457 document as a person reads it.

// The words are those of serve/upload_page/advice.py, which `ofPerson` does in the browser.

import { byCode, labels, phrases, untitled } from "./advice.js";
import { make } from "./dom.js";

export function describe(problem) {
  const { title, detail, where, hint } = ofPerson(problem);
  const lines = [make("p", {}, title ? make("strong", {}, `${title}.`) : null, ` ${detail}`)];
  if (where) lines.push(make("p", {}, where));
  if (hint) lines.push(make("p", {}, `What to do: ${hint}`));
  if (problem.code === "unauthorized") {
    lines.push(make("p", {}, make("a", { href: "/ingest" }, "Sign in again")));
  }
  if (problem.code) {
    lines.push(make("p", { class: "headrace-help" }, "Code: ", make("code", {}, problem.code)));
  }
  return lines;
}

export function ofPerson(problem) {
  let detail = problem.detail || "";
  const [option] = detail.match(/^[a-z]+(?= cannot be used)/) ?? [];
  if (labels[option]) detail = `“${labels[option]}”${detail.slice(option.length)}`;
  if (/^[a-z]+[ ,]/.test(detail)) detail = detail[0].toUpperCase() + detail.slice(1);
  let hint = byCode[problem.code] || problem.hint || "";
  for (const [phrase, words] of Object.entries(phrases)) hint = hint.replaceAll(phrase, words);
  const title = untitled.includes(problem.code) ? "" : problem.title;
  return { title, detail: ended(detail), where: where(problem, detail), hint: ended(hint) };
}

// Where in the file it is, if the detail does not say so.
function where({ line, column, lines }, detail) {
  const said = new Set((detail.match(/\d+/g) || []).map(Number));
  if (lines?.length > 1 && !lines.every((each) => said.has(each))) {
    return `Bad rows in lines ${lines.join(", ")}.`;
  }
  if (!line || (said.has(line) && said.has(column || line))) return "";
  return column ? `Line ${line}, column ${column}.` : `Line ${line}.`;
}

function ended(text) {
  return !text || /[.?!]$/.test(text) ? text : `${text}.`;
}

// What was answered, as a problem document; also where a proxy answered with a page of its own.
export async function read(response) {
  if ((response.headers.get("Content-Type") || "").startsWith("application/problem+json")) {
    return response.json();
  }
  return { title: "The answer cannot be understood", detail: `It has the status ${response.status}.` };
}

export const away = {
  title: "The server cannot be reached",
  detail: "No answer came.",
  hint: "look at your connection, and try again",
};
