# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_keygate_global_optspecs
    string join \n h/help V/version
end

function __fish_keygate_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_keygate_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_keygate_using_subcommand
    set -l cmd (__fish_keygate_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c keygate -n "__fish_keygate_needs_command" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_needs_command" -s V -l version -d 'Print version'
complete -c keygate -n "__fish_keygate_needs_command" -f -a "serve" -d 'Run the gateway'
complete -c keygate -n "__fish_keygate_needs_command" -f -a "check" -d 'Check a configuration and say what it leaves unrestricted'
complete -c keygate -n "__fish_keygate_needs_command" -f -a "token" -d 'Create, list, show, change and delete tokens'
complete -c keygate -n "__fish_keygate_needs_command" -f -a "keys" -d 'List and change the keys that sign client tokens'
complete -c keygate -n "__fish_keygate_needs_command" -f -a "reload" -d 'Make the running gateway read its configuration again'
complete -c keygate -n "__fish_keygate_needs_command" -f -a "status" -d 'Show how the running gateway is doing'
complete -c keygate -n "__fish_keygate_needs_command" -f -a "demo" -d 'Run a gateway with a built-in mock provider, to try things out'
complete -c keygate -n "__fish_keygate_using_subcommand serve" -s c -l config -d 'The configuration file' -r -F
complete -c keygate -n "__fish_keygate_using_subcommand serve" -l threads -d 'Worker threads; one per processor unless given' -r
complete -c keygate -n "__fish_keygate_using_subcommand serve" -l log-level -d 'What to log to standard error' -r
complete -c keygate -n "__fish_keygate_using_subcommand serve" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand check" -s c -l config -d 'The configuration file' -r -F
complete -c keygate -n "__fish_keygate_using_subcommand check" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand token; and not __fish_seen_subcommand_from create list show update disable enable delete" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand token; and not __fish_seen_subcommand_from create list show update disable enable delete" -f -a "create" -d 'Create a token and print it, this once'
complete -c keygate -n "__fish_keygate_using_subcommand token; and not __fish_seen_subcommand_from create list show update disable enable delete" -f -a "list" -d 'List all tokens, or those that were minted with them'
complete -c keygate -n "__fish_keygate_using_subcommand token; and not __fish_seen_subcommand_from create list show update disable enable delete" -f -a "show" -d 'Show one token, minted ones too'
complete -c keygate -n "__fish_keygate_using_subcommand token; and not __fish_seen_subcommand_from create list show update disable enable delete" -f -a "update" -d 'Change a token\'s name, expiry or grant'
complete -c keygate -n "__fish_keygate_using_subcommand token; and not __fish_seen_subcommand_from create list show update disable enable delete" -f -a "disable" -d 'Refuse a token until it is enabled again; a client token for good'
complete -c keygate -n "__fish_keygate_using_subcommand token; and not __fish_seen_subcommand_from create list show update disable enable delete" -f -a "enable" -d 'Accept a disabled token again'
complete -c keygate -n "__fish_keygate_using_subcommand token; and not __fish_seen_subcommand_from create list show update disable enable delete" -f -a "delete" -d 'Delete a token for good; what it has open ends'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -l name -d 'What people call it' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -l policy -d 'The policy that it falls under' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -l provider -d 'A provider that it may use (repeat for several; as all of these: left out, any)' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -l model -d 'A model, exact or with * at the end' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -l origin -d 'A site whose pages may use it (`scheme://host` or `scheme://host:port`)' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -l path -d 'A path as the provider sees it, exact or with * at the end' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -l method -d 'An HTTP method' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -l rate -d 'At most so many requests in each window' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -l concurrency -d 'At most so many requests and sockets at a time' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -l expires-at -d 'When it ends (2099-01-01T00:00:00Z)' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -l ttl -d 'How long it lasts from now (60s, 10m, 24h, 30d)' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -l token -d 'A token of your own (at least 12 characters); other users of this machine may see it in the list of processes: `-` reads it from standard input' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -s c -l config -d 'The configuration file' -r -F
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -l may-mint -d 'Let it mint client tokens: short-lived, for browsers and apps, never wider than itself'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -l json -d 'Print JSON'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from list" -s c -l config -d 'The configuration file' -r -F
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from list" -l client -d 'The client tokens that were minted lately, revoked and expired ones included'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from show" -s c -l config -d 'The configuration file' -r -F
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from show" -l json -d 'Print JSON'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -s c -l config -d 'The configuration file' -r -F
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l name -d 'What people call it from now on' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l policy -d 'The policy that it falls under from now on, in place of its own grant if it has one' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l expires-at -d 'When it ends (2099-01-01T00:00:00Z)' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l ttl -d 'How long it lasts from now (60s, 10m, 24h, 30d)' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l provider -d 'A provider that it may use (repeat for several; as all of these: left out, any)' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l model -d 'A model, exact or with * at the end' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l origin -d 'A site whose pages may use it (`scheme://host` or `scheme://host:port`)' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l path -d 'A path as the provider sees it, exact or with * at the end' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l method -d 'An HTTP method' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l rate -d 'At most so many requests in each window' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l concurrency -d 'At most so many requests and sockets at a time' -r
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l may-mint -d 'Whether it may mint client tokens from now on' -r -f -a "true\t''
false\t''"
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l json -d 'Print JSON'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l no-policy -d 'Take its policy away: its own grant holds if flags here give it one, else the default policy'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -l no-expiry -d 'It does not end'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from update" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from disable" -s c -l config -d 'The configuration file' -r -F
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from disable" -l json -d 'Print JSON'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from disable" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from enable" -s c -l config -d 'The configuration file' -r -F
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from enable" -l json -d 'Print JSON'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from enable" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from delete" -s c -l config -d 'The configuration file' -r -F
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from delete" -l json -d 'Print JSON'
complete -c keygate -n "__fish_keygate_using_subcommand token; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand keys; and not __fish_seen_subcommand_from rotate list" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand keys; and not __fish_seen_subcommand_from rotate list" -f -a "rotate" -d 'Make a new signing key: published at once, signing ten minutes later'
complete -c keygate -n "__fish_keygate_using_subcommand keys; and not __fish_seen_subcommand_from rotate list" -f -a "list" -d 'List the signing keys'
complete -c keygate -n "__fish_keygate_using_subcommand keys; and __fish_seen_subcommand_from rotate" -s c -l config -d 'The configuration file' -r -F
complete -c keygate -n "__fish_keygate_using_subcommand keys; and __fish_seen_subcommand_from rotate" -l json -d 'Print JSON'
complete -c keygate -n "__fish_keygate_using_subcommand keys; and __fish_seen_subcommand_from rotate" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand keys; and __fish_seen_subcommand_from list" -s c -l config -d 'The configuration file' -r -F
complete -c keygate -n "__fish_keygate_using_subcommand keys; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c keygate -n "__fish_keygate_using_subcommand keys; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand reload" -s c -l config -d 'The configuration file' -r -F
complete -c keygate -n "__fish_keygate_using_subcommand reload" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand status" -s c -l config -d 'The configuration file' -r -F
complete -c keygate -n "__fish_keygate_using_subcommand status" -l json -d 'Print JSON'
complete -c keygate -n "__fish_keygate_using_subcommand status" -s h -l help -d 'Print help'
complete -c keygate -n "__fish_keygate_using_subcommand demo" -l port -d 'The port to listen on, on this machine only; 0 takes a free one [default: 8080, or a free one if that is taken]' -r
complete -c keygate -n "__fish_keygate_using_subcommand demo" -s h -l help -d 'Print help'
