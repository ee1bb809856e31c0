// Jobs a second that BullMQ runs, on Redis:
//
//     QTASKS_BESIDE=ADDRESS node bullmq.mjs through|drain JOBS
//
// `through` enqueues them one by one, 50 in flight, while the worker runs; `drain` works off those that wait.
import { Queue, Worker } from "bullmq";
import { producing } from "./producing.mjs";

const address = process.env.QTASKS_BESIDE;
const [work, asked] = process.argv.slice(2);
const jobs = Number(asked);
const connection = { url: address };
const queue = new Queue("jobs", { connection });
const filling = { text: "x".repeat(88) };
if (work === "drain") {
  for (let made = 0; made < jobs; made += 1_000) {
    await queue.addBulk(Array.from({ length: 1_000 }, () => ({ name: "nothing", data: filling })));
  }
}
let left = jobs;
let all;
const done = new Promise((resolve) => (all = resolve));
const start = process.hrtime.bigint();
// One by default; its documents leave it to what the jobs wait for.
const worker = new Worker("jobs", async () => {}, { connection, concurrency: 64 });
worker.on("error", (error) => console.error(error.message));
// Which comes when Redis has it.
worker.on("completed", () => {
  left -= 1;
  if (left === 0) all();
});
if (work === "through") await producing(jobs, () => queue.add("nothing", filling));
await done;
await worker.close();
const seconds = Number(process.hrtime.bigint() - start) / 1e9;
const counts = await queue.getJobCounts("waiting", "active", "completed", "failed");
if (counts.completed !== jobs) throw new Error(`of ${jobs} jobs: ${JSON.stringify(counts)}`);
console.log(Math.round(jobs / seconds));
await queue.close();
process.exit(0);
