// Works off jobs that wait, by graphile_worker with its local queue, and says how many in a second.
//
//     node graphile.mjs DATABASE_URL JOBS
import { Logger, runMigrations, runTaskList } from "graphile-worker";
import pg from "pg";

const [url, asked] = process.argv.slice(2);
const jobs = Number(asked);
const pool = new pg.Pool({ connectionString: url, max: 20 });
pool.on("error", (error) => console.error(error.message));
pool.on("connect", (client) => client.on("error", (error) => console.error(error.message)));
const options = {
  pgPool: pool,
  logger: new Logger(() => () => {}),
  preset: {
    worker: {
      concurrentJobs: 64,
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      localQueue: { size: 500 },
      maxPoolSize: 20,
    },
  },
};

await pool.query("DROP SCHEMA IF EXISTS graphile_worker CASCADE");
await runMigrations(options);
const filling = "x".repeat(88);
for (let made = 0; made < jobs; made += 10_000) {
  const count = Math.min(10_000, jobs - made);
  await pool.query(
    `SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
       SELECT ('nothing', json_build_object('text', $1::text), null, null, null, null, null, null)::graphile_worker.job_spec
       FROM generate_series(1, $2)))`,
    [filling, count],
  );
}
await pool.query("VACUUM ANALYZE graphile_worker._private_jobs");
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
await done;
await workers.gracefulShutdown();
const seconds = Number(process.hrtime.bigint() - start) / 1e9;
const { rows } = await pool.query("SELECT count(*)::int AS count FROM graphile_worker._private_jobs");
if (rows[0].count !== 0) throw new Error(`${rows[0].count} jobs are left`);
console.log(Math.round(jobs / seconds));
await pool.end();
process.exit(0);
