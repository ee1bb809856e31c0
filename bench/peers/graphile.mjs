// Jobs a second that graphile_worker runs with its local queue, on Postgres:
//
//     QTASKS_BESIDE=ADDRESS node graphile.mjs through|drain JOBS
//
// `through` enqueues them one by one, 50 in flight, while the worker runs; `drain` works off those that wait.
import { Logger, makeWorkerUtils, runMigrations, runTaskList } from "graphile-worker";
import pg from "pg";
import { producing } from "./producing.mjs";

const address = process.env.QTASKS_BESIDE;
const [work, asked] = process.argv.slice(2);
const jobs = Number(asked);
const pool = new pg.Pool({ connectionString: address, max: 25 });
pool.on("error", (error) => console.error(error.message));
pool.on("connect", (client) => client.on("error", (error) => console.error(error.message)));
// The settings of its own measurements, which its documents show.
const options = {
  pgPool: pool,
  logger: new Logger(() => () => {}),
  preset: {
    worker: {
      concurrentJobs: 24,
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      localQueue: { size: 500 },
      maxPoolSize: 25,
    },
  },
};

await runMigrations(options);
const filling = "x".repeat(88);
if (work === "drain") {
  for (let made = 0; made < jobs; made += 10_000) {
    await pool.query(
      `SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
         SELECT ('nothing', json_build_object('text', $1::text), null, null, null, null, null, null)::graphile_worker.job_spec
         FROM generate_series(1, $2)))`,
      [filling, Math.min(10_000, jobs - made)],
    );
  }
  await pool.query("VACUUM ANALYZE graphile_worker._private_jobs");
}
const utils = await makeWorkerUtils(options);
let left = jobs;
let all;
const done = new Promise((resolve) => (all = resolve));
const start = process.hrtime.bigint();
const workers = runTaskList(
  options,
  {
    nothing: () => {
      left -= 1;
      if (left === 0) all();
    },
  },
  pool,
);
if (work === "through") await producing(jobs, () => utils.addJob("nothing", { text: filling }));
await done;
await workers.gracefulShutdown();
const seconds = Number(process.hrtime.bigint() - start) / 1e9;
const { rows } = await pool.query("SELECT count(*)::int AS count FROM graphile_worker._private_jobs");
if (rows[0].count !== 0) throw new Error(`${rows[0].count} jobs are left`);
console.log(Math.round(jobs / seconds));
await pool.end();
process.exit(0);
