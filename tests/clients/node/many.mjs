// Uploads with tus-js-client whatever it is told to, each as soon as it is told, until its input ends: one job a line, in JSON.
//
//   name       comes back with all that is said of it
//   file       what to upload
//   options    options of tus.Upload
//
// What happens goes out as lines of JSON: `url` (with `asked`, the seconds since the epoch at which the creation was asked for), `offset`,
// `success`, `error`.

import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import * as tus from 'tus-js-client'

for await (const line of createInterface({ input: process.stdin })) start(JSON.parse(line))

function start(job) {
  const say = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, name: job.name, url: upload.url, ...fields })}\n`)
  let asked = 0
  const upload = new tus.Upload(createReadStream(job.file), {
    ...job.options,
    onBeforeRequest(request) {
      if (request.getMethod() === 'POST') asked = Date.now() / 1000
    },
    onUploadUrlAvailable() {
      say('url', { asked })
    },
    onChunkComplete(_size, accepted) {
      say('offset', { offset: accepted })
    },
    onSuccess() {
      say('success')
    },
    onError(error) {
      say('error', { status: error.originalResponse?.getStatus() ?? null, text: String(error) })
    },
  })
  upload.start()
}
