#!/bin/sh
# A source for ReplayForge: each file FOLDER/*.json is an event, and is removed once ReplayForge has it on disk.
# Write a file under another name, and rename it when it is whole.
#
# One event at a time: simple, and as fast as one commit each.
folder=$1

while :; do
    for file in "$folder"/*.json; do
        [ -e "$file" ] || continue
        name=$(basename "$file")
        printf '{"id":"%s","path":"/spool","body":%s}\n' "$name" "$(tr '\n' ' ' < "$file")"
        # The answer comes when the event is stored; the end of input means that ReplayForge has gone.
        read -r answer || exit 0
        case $answer in
            '{"ack":'*) rm "$file" ;;
            *) mv "$file" "$file.refused"; echo "$name: $answer" >&2 ;;
        esac
    done
    sleep 0.2
done
