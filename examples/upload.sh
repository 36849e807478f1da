#!/bin/sh
# Upload a file with nothing but curl: create, send one half, ask how far it is, send the rest.
#
#     sh examples/upload.sh FILE [URL]
set -eu
file=$1
url=${2:-http://127.0.0.1:8080/files/}
size=$(wc -c < "$file" | tr -d ' ')
name=$(basename "$file" | tr -d '\n' | base64 | tr -d '\n')
tus='Tus-Resumable: 1.0.0'
octets='Content-Type: application/offset+octet-stream'

echo "> create an upload of $size bytes"
location=$(curl -sS -D - -o /dev/null -X POST -H "$tus" -H "Upload-Length: $size" -H "Upload-Metadata: filename $name" "$url" |
    tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
case $location in
    http*) upload=$location ;;
    /*) upload=$(echo "$url" | sed 's|^\(https*://[^/]*\).*|\1|')$location ;;
    *) echo "the server made no upload" >&2; exit 1 ;;
esac
echo "$upload"

offset() { curl -sS -I -H "$tus" "$upload" | tr -d '\r' | sed -n 's/^[Uu]pload-[Oo]ffset: //p'; }
# -T - sends as it reads, where --data-binary would hold it all in memory; -f ends the script on a refusal.
send() { curl -sSf -o /dev/null -w '%{http_code}\n' -X PATCH -H "$tus" -H "$octets" -H "Upload-Offset: $1" -T - "$upload"; }

half=$((size / 2))
echo "> send the first $half bytes"
head -c "$half" "$file" | send 0
at=$(offset)
echo "> the server has $at bytes; send the rest"
tail -c +$((at + 1)) "$file" | send "$at"
echo "> the server has $(offset) bytes of $size"
