-- ARGV from 2: the worker, and until when it keeps its leases. Gives them.

call('ZADD', key('workers'), ARGV[3], ARGV[2])
return call('SMEMBERS', key('held:', ARGV[2]))
