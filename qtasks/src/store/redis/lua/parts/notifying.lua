-- How processes notify each other.

-- Notifies all processes: which jobs have changed, which of them have ended, whether there is work, and whether a worker
-- is gone.
local function notify(changed, ended, work, lost)
    if #changed > 0 or work or lost then
        local flags, ids = (work and 1 or 0) + (lost and 2 or 0), table.concat(changed)
        local message = ARGV[1] .. struct.pack('>BI4', flags, #ids / ID) .. ids .. table.concat(ended)
        call('PUBLISH', key('news'), message)
    end
end

