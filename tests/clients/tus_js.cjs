// Uploads one file with tus-js-client, as the job on standard input says, and writes what came of
// it as one line of JSON: {ok, error, url, requests: [[method, status], ...], lastOffset}.
//
// job: endpoint, token, path; source: "buffer", "file" or "stream"; options: of tus.Upload;
// headers; storage: a file for FileUrlStorage; resume: goes on with what is stored there;
// abortAt: stops when so many bytes are acknowledged, "terminate" with DELETE.
"use strict";

const fs = require("node:fs");
const { Readable } = require("node:stream");
const tus = require("tus-js-client");

const job = JSON.parse(fs.readFileSync(0, "utf8"));
const requests = [];
let upload;
let lastOffset = 0;
let isOver = false;

function finish(result) {
  if (isOver) return;
  isOver = true;
  const line = JSON.stringify({ ...result, url: upload.url, requests, lastOffset });
  process.stdout.write(`${line}\n`, () => process.exit(0));
}

function source() {
  if (job.source === "buffer") return fs.readFileSync(job.path);
  if (job.source === "file") return fs.createReadStream(job.path);
  return Readable.from(fs.createReadStream(job.path)); // it has no path, so it cannot be sought
}

const options = {
  endpoint: job.endpoint,
  retryDelays: [0, 0, 0],
  ...job.options,
  headers: { Authorization: `Bearer ${job.token}`, ...job.headers },
  onAfterResponse: (request, response) => {
    requests.push([request.getMethod(), response.getStatus()]);
  },
  onError: (error) => finish({ ok: false, error: String(error) }),
  onSuccess: () => finish({ ok: true }),
  onChunkComplete: (_, accepted) => {
    lastOffset = accepted;
    if (job.abortAt !== undefined && accepted >= job.abortAt && !isOver) {
      upload
        .abort(job.terminate === true)
        .then(() => finish({ ok: false, error: "aborted" }))
        .catch((error) => finish({ ok: false, error: String(error) }));
    }
  },
};
if (job.storage !== undefined) options.urlStorage = new tus.FileUrlStorage(job.storage);

upload = new tus.Upload(source(), options);
if (job.resume) {
  upload.findPreviousUploads().then((found) => {
    if (found.length > 0) upload.resumeFromPreviousUpload(found[0]);
    upload.start();
  });
} else {
  upload.start();
}
