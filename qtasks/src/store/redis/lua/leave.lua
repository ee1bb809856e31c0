-- ARGV from 2: the worker.

if call('EXISTS', key('held:', ARGV[2])) == 1 then
    call('ZADD', key('workers'), LONG_AGO, ARGV[2])
    tell({}, {}, false, true)
else
    call('ZREM', key('workers'), ARGV[2])
end
