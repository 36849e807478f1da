// Runs tus-js-client once. The job is the last argument, in JSON; what happens goes out as lines of JSON.
//
//   file       what to upload
//   stream     whether it is read as a stream of unknown length
//   options    options of tus.Upload
//   store      file of a FileUrlStorage
//   resume     go on with the upload that the storage knows
//   abortAt    abort once so many bytes have been sent, and start again
//   terminate  with abortAt: abort(true), and do not start again

import { createReadStream } from 'node:fs'
import { PassThrough } from 'node:stream'
import * as tus from 'tus-js-client'

const job = JSON.parse(process.argv.at(-1))
const say = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`)

let progress = null
let aborted = false

const upload = new tus.Upload(input(), {
  ...job.options,
  ...(job.store ? { urlStorage: new tus.FileUrlStorage(job.store) } : {}),
  onProgress(sent, total) {
    progress = { sent, total }
    if (job.abortAt && sent >= job.abortAt && !aborted) abort(sent)
  },
  onAfterResponse(request, response) {
    say('answer', { method: request.getMethod(), status: response.getStatus(), offset: response.getHeader('Upload-Offset') ?? null })
  },
  onSuccess() {
    say('progress', progress)
    say('success', { url: upload.url })
  },
  onError(error) {
    say('error', { status: error.originalResponse?.getStatus() ?? null, text: error.originalResponse?.getBody() ?? String(error) })
    process.exitCode = 1
  },
})

if (job.resume) {
  const [previous] = await upload.findPreviousUploads()
  say('found', { url: previous?.uploadUrl ?? null })
  upload.resumeFromPreviousUpload(previous)
}
upload.start()

function input() {
  const file = createReadStream(job.file)
  return job.stream ? file.pipe(new PassThrough()) : file
}

async function abort(sent) {
  aborted = true
  await upload.abort(Boolean(job.terminate))
  say('aborted', { sent, url: upload.url })
  if (!job.terminate) upload.start()
}
