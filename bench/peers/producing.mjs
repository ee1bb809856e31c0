// Enqueues one by one, 50 in flight.
export async function producing(jobs, enqueue) {
  const producer = async () => {
    for (let made = 0; made < jobs / 50; made += 1) await enqueue();
  };
  await Promise.all(Array.from({ length: 50 }, producer));
}
