// Sends a file with tus-js-client, whole and in three parts at once: node upload.mjs URL TOKEN FILE.
// Each upload pauses after its first bytes until a line comes in; then prints what it was answered.
import { once } from "node:events"
import { createReadStream } from "node:fs"
import { createInterface } from "node:readline"
import tus from "tus-js-client"

const [endpoint, token, path] = process.argv.slice(2)
const lines = createInterface({ input: process.stdin })
const told = once(lines, "line")

function send(parts) {
  const statuses = []
  let sent = 0
  return new Promise((resolve, reject) => {
    const upload = new tus.Upload(createReadStream(path), {
      endpoint,
      headers: { Authorization: `Bearer ${token}` },
      metadata: { filename: `of-${parts}.csv`, filetype: "text/csv", database: "node" },
      chunkSize: 64 * 1024,
      parallelUploads: parts,
      retryDelays: Array(200).fill(100),
      onBeforeRequest: async (request) => {
        if (request.getMethod() !== "PATCH" || (sent += 1) !== parts + 1) return
        console.log("paused")
        await told
      },
      onAfterResponse: (_request, response) => {
        statuses.push(response.getStatus())
      },
      onError: reject,
      onSuccess: ({ lastResponse }) => {
        resolve({ receipt: lastResponse.getHeader("Headrace-Receipt"), statuses })
      },
    })
    upload.start()
  })
}

console.log(JSON.stringify(await Promise.all([send(1), send(3)])))
lines.close()
