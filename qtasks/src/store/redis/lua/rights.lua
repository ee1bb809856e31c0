-- ARGV from 2: commands. Gives those that the account may not call in a script, where the server can be asked that.

local lacking = {}
-- The channel for notifications has the name of a key, so that only the command itself counts.
local news = KEYS[1] .. 'news'
for index = 2, #ARGV do
    local command = ARGV[index]
    if redis.acl_check_cmd and not redis.acl_check_cmd(command, news, news, news) then
        lacking[#lacking + 1] = command
    end
end
return lacking
