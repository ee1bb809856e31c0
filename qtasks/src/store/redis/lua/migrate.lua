-- ARGV from 2: the format 5. Begins to make it of a store of format 2 or 3: takes from programs of these formats what says
-- where jobs are, so that they can change none, and puts something else where they would add a job to it. Another script then
-- takes over the jobs, some at a time. Where this one breaks off, the next try goes on from there.

local function old(kind, of)
    return KEYS[1] .. kind .. (of or '')
end

local format = call('GET', old('format'))
if format == '4' then
    -- Its jobs stand under the same keys. Its programs would end jobs and let none on that wait for them: they see the number and stop.
    insist('SET', old('format'), ARGV[2])
    return
end
if format ~= '2' and format ~= '3' then
    return
end
begin_though_full()
local beats = call('HGETALL', old('beats'))
for index = 1, #beats, 2 do
    call('HSETNX', key('beats'), beats[index], beats[index + 1])
    call('UNLINK', old('held:', beats[index]))
end
for _, worker in ipairs(call('ZRANGE', old('workers'), 0, -1)) do
    call('UNLINK', old('held:', worker))
end
for _, lane in ipairs(call('SMEMBERS', old('lanes'))) do
    call('UNLINK', old('line:', lane), old('ready:', lane), old('suspects:', lane), old('later:', lane))
end
call('UNLINK', old('lanes'), old('beats'), old('workers'), old('finished'), old('dead'), old('reach'))
for _, kind in ipairs({ 'ids', 'jobs' }) do
    if call('EXISTS', old(kind)) == 1 then
        call('RENAME', old(kind), key('of_old:', kind))
    end
end
call('SETNX', key('taken_over'), 0)
-- Their scripts read these keys, as other types, before they write anything that counts.
call('SADD', old('reach'), 'the format is ' .. ARGV[2])
call('SET', old('ids'), 'the format is ' .. ARGV[2])
call('SET', old('format'), ARGV[2])
