// Sends a file by tus, so that a connection that is cut costs only what was on its way. After a
// reload of the page the same file, chosen again for the same place, goes on where it was.

import { away } from "./problem.js";

const CHUNK_BYTES = 32 * 1024 * 1024; // proxies that hold a body, hold no more
const RETRY_MS = [0, 300, 1000, 2000, 5000, 10000, 20000, 30000, 30000, 30000];
const TRY_AGAIN = new Set([0, 409, 423, 429, 500, 502, 503, 504]);

let loading;

async function load() {
  loading ??= import("./vendor/tus.min.js").then(() => window.tus);
  return loading;
}

// Gives the id of the receipt; throws a problem document.
export async function send(file, options, { onProgress, onCut }) {
  const tus = await load();
  return new Promise((resolve, reject) => {
    let receipt = null;
    const upload = new tus.Upload(file, {
      endpoint: new URL("/ingest/tus", location.href).href,
      chunkSize: CHUNK_BYTES,
      retryDelays: RETRY_MS,
      removeFingerprintOnSuccess: true,
      metadata: { ...options, filename: file.name, filetype: file.type },
      fingerprint: async () =>
        ["headrace", file.name, file.size, file.lastModified, JSON.stringify(options)].join(" "),
      onProgress,
      onAfterResponse: (_request, response) => {
        receipt = response.getHeader("Headrace-Receipt") || receipt;
      },
      onShouldRetry: (error) => {
        const again = TRY_AGAIN.has(error.originalResponse?.getStatus() ?? 0);
        if (again) onCut();
        return again;
      },
      onError: (error) => reject(problemOf(error)),
      onSuccess: () => (receipt ? resolve(receipt) : reject(away)),
    });
    upload.findPreviousUploads().then((before) => {
      if (before.length) upload.resumeFromPreviousUpload(before[0]);
      upload.start();
    });
  });
}

function problemOf(error) {
  const response = error.originalResponse;
  if (!response) return away;
  try {
    const problem = JSON.parse(response.getBody());
    if (problem.title) return problem;
  } catch {
    // a proxy's own page
  }
  return { title: "The file could not be sent", detail: `The status was ${response.getStatus()}.` };
}
