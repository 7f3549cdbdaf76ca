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

edge_file() {
    sed "s/0\.0\.0\.0/$(address_of "$1")/" proxima.toml >"edge-$1.next"
    mv "edge-$1.next" "edge-$1.toml"
}

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

add_region() {
    local n
    n=$(address_of "$1")
    sed -i "s/^\[services.web\]/&\nendpoints.$1 = [\"127.0.0.1:$SERVICE_PORT\"]/" proxima.toml
    # shellcheck disable=SC2153 # test_commands.py sets PEER_PORT
    printf '\n[regions.%s]\npeer = "%s:%s"\nserver_name = "peer.%s.example.com"\naddresses = ["%s"]\nhealth_port = %s\n' \
        "$1" "$n" "$PEER_PORT" "$1" "$n" "$HEALTH_PORT" >>proxima.toml
}

remove_region() {
    sed -i "/^endpoints.$1 /d; /^\[regions.$1\]/,/^health_port/d" proxima.toml
}

# Until the first edge hears all regions and sees them well.
all_up() {
    until curl -fs "$ADMIN_OF_FIRST_EDGE/metrics" | grep -c '^proxima_verdict{.*verdict="up".* 1$' | grep -qx "$1"; do sleep 0.2; done
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
# Aliases first, then what they lead to.
wipe_records() {
    delete_where '.Name == "www.example.com." and .Type == "A"'
    delete_where '(.Name | endswith(".www.example.com."))'
}
wipe_foreign() { delete_where '.Name == "mail.example.com."'; }
