use qtasks::qtask;

struct State<T>(T);
struct TaskContext;
struct Co<Y, R>(Y, R);

#[qtask]
async fn state(state: State<i64>) {}

#[qtask(echo = true)]
fn context(context: TaskContext) {}

#[qtask]
async fn co(co: Co<i64, i64>) -> Vec<i64> {}

fn main() {}
