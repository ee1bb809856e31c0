-- ARGV from 2: the worker, and until when it keeps its leases. Gives them: jobs and attempts in turn.

call('ZADD', KEYS[1] .. 'workers', ARGV[3], ARGV[2])
return call('HGETALL', KEYS[1] .. 'held:' .. ARGV[2])
