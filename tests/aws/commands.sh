# The world of RUNBOOK.md's commands, as far as one machine has it: what people do by hand or by Helm between them.
# Sourced by test_commands.py; its folder holds proxima.toml as an operator has it.
# shellcheck shell=bash

# Edges run by a file of their own: the addresses to listen at differ on one machine.
address_of() {
    case $1 in
    eu-west-1) echo 127.0.0.11 ;;
    us-east-1) echo 127.0.0.12 ;;
    ap-northeast-1) echo 127.0.0.13 ;;
    esac
}
ADMIN_OF_FIRST_EDGE=http://127.0.0.11:$ADMIN_PORT
export PEER_HOST=127.0.0.11

# What `helm upgrade` does with the ConfigMap: the edges that run read their file again, and have when this ends.
roll() {
    local file region before
    for file in edges/*.pid; do
        [ -e "$file" ] || continue
        region=$(basename "$file" .pid)
        # An edge whose region is not in the file refuses it: Helm upgrades the regions that stay.
        grep -qF "[regions.$region]" proxima.toml || continue
        before=$(reloads "$region")
        edge_file "$region"
        until [ "$(reloads "$region")" != "$before" ]; do sleep 0.2; done
    done
}

reloads() { curl -fs "http://$(address_of "$1"):$ADMIN_PORT/metrics" | grep '^proxima_reloads_total{result="applied"}'; }

start_edge() {
    local region=$1
    edge_file "$region"
    PROXIMA_REGION=$region proxima run "edge-$region.toml" >>"edges/$region.log" 2>&1 &
    echo $! >"edges/$region.pid"
    until curl -fs "http://$(address_of "$region"):$ADMIN_PORT/ready" >/dev/null; do
        kill -0 "$(cat "edges/$region.pid")" || { tail -n 20 "edges/$region.log"; return 1; }
        sleep 0.1
    done
}

stop_edge() {
    kill -9 "$(cat "edges/$1.pid")"
    rm "edges/$1.pid"
}

lose_route53() { kill -STOP "$ZONE_SERVER_PID"; }
find_route53() { kill -CONT "$ZONE_SERVER_PID"; }

change() {
    aws route53 change-resource-record-sets --hosted-zone-id "$ZONE_ID" --change-batch "$1" >/dev/null
}

delete_where() {
    aws route53 list-resource-record-sets --hosted-zone-id "$ZONE_ID" --output json >all.json
    jq "{Changes: [.ResourceRecordSets[] | select($1) | {Action: \"DELETE\", ResourceRecordSet: .}]}" all.json >delete.json
    change file://delete.json
}

damage_records() { delete_where '.Name == "www.example.com." and .SetIdentifier == "us-east-1"'; }

# `terraform apply` with so many regions.
apply() { cp "terraform/$1.toml" terraform/applied.toml; cp "terraform/$1.json" terraform/applied.json; }

terraform() {
    case $* in
    "output -raw bucket") echo backup ;;
    "output -raw configuration") cat terraform/applied.toml ;;
    "output -json values") cat terraform/applied.json ;;
    *) echo "terraform $*: not here" >&2; return 1 ;;
    esac
}

take_over() { terraform output -raw configuration > proxima.toml; }

# Secrets are folders of files: mounted/REGION is /etc/proxima-tls of the edges there. kubectl makes them where it is here.
kubectl() {
    case $* in
    *" create secret generic "*--dry-run=client*) python -B "$TESTS/secret.py" make "$@" ;;
    "--context proxima-"*" apply -f -") python -B "$TESTS/secret.py" mount "mounted/${2#proxima-}" ;;
    *) echo "kubectl $*: not here" >&2; return 1 ;;
    esac
}

# Names of peer listeners lead to the load balancers.
openssl() {
    local words=() word region
    for word in "$@"; do
        case $word in
        peer.*.example.com:8443)
            region=${word#peer.} region=${region%.example.com:8443}
            # shellcheck disable=SC2153 # test_commands.py sets PEER_PORT
            word=$(address_of "$region"):$PEER_PORT
            ;;
        esac
        words+=("$word")
    done
    command openssl "${words[@]}"
}

# An edge's place in a cluster, here: its Secrets, its address and ports, no load balancer that sends PROXY headers, no siblings.
edge_file() {
    local here region peers=()
    here=$(address_of "$1")
    for region in eu-west-1 us-east-1 ap-northeast-1; do
        peers+=(-e "s|^peer = \"\(peer\.$region\.example\.com\):8443\"|peer = \"$(address_of "$region"):$PEER_PORT\"\nserver_name = \"\1\"|")
    done
    sed -e "s|/etc/proxima-tls/|mounted/$1/|" -e '/^siblings = /d' -e '/^proxy_protocol = /d' -e '/^trusted = /d' \
        -e "s/0\.0\.0\.0:8080/$here:$HEALTH_PORT/; s/0\.0\.0\.0:8443/$here:$PEER_PORT/; s/0\.0\.0\.0:9901/$here:$ADMIN_PORT/" \
        -e "s/web\.default\.svc\.cluster\.local:80/127.0.0.1:$SERVICE_PORT/" "${peers[@]}" proxima.toml >"edge-$1.next"
    mv "edge-$1.next" "edge-$1.toml"
}

# Until the first edge hears so many regions and sees them well, for both names.
all_up() {
    until curl -fs "$ADMIN_OF_FIRST_EDGE/metrics" | grep -c '^proxima_verdict{.*verdict="up".* 1$' | grep -qx "$((2 * $1))"; do sleep 0.2; done
}

# Aliases first, then what they lead to.
wipe_records() {
    delete_where '(.Name == "www.example.com." or .Name == "shop.example.com.") and .Type == "A"'
    delete_where '(.Name | endswith(".www.example.com.") or endswith(".shop.example.com.")) and .Name != "notes.shop.example.com."'
}
wipe_foreign() { delete_where '.Name == "mail.example.com." or .Name == "notes.shop.example.com."'; }

all_is_back() {
    for name in mail.example.com. notes.shop.example.com.; do
        aws route53 list-resource-record-sets --hosted-zone-id "$ZONE_ID" --output json | grep -qF "\"$name\""
    done
}
