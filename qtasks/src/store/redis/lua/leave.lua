-- ARGV from 2: the worker. Gives 1 if it holds leases, which can be taken now.

if call('EXISTS', key('held:', ARGV[2])) == 0 then
    forget_worker(ARGV[2])
    return 0
end
insist('HSET', key('beats'), ARGV[2], LEFT)
notify({}, {}, false, true)
return 1
