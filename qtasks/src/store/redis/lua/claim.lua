-- ARGV from 2: the jobs that come after others, as `begin` takes them; the keys of jobs, as `claim` takes them; and the jobs, as
-- `enqueue` takes them.
-- Gives the id of a job that is refused, that of the holder of its key and nothing, or that of a job that is not there and twice nothing;
-- or the ids of the jobs that were not added and of those that hold their keys, in turn.

local from, begun, missing = begin(2)
if missing then
    return missing
end
local at, skip, joined, late, refused = claim(from)
if refused then
    return refused
end
enqueue(at, #ARGV, skip)
finish(late)
hold_all(begun, skip)
write_tallies()
notify(holders_of(joined), {}, true)
return joined
