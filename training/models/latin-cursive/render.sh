#!/bin/sh
# Renders the lines of both stages into the folder DATA, which holds fonts and texts; a part that is complete is kept.
cd "$1" || exit 2
part() { # FOLDER NUMBER OPTIONS
    folder=$1 number=$2
    shift 2
    [ -f "$folder/part-$number.ln" ] || htr-train synth --fonts fonts --format jpg --workers 1 \
        -o "$folder" --list "part-$number.ln" --seed "$number" "$@" || exit 1
    cat "$folder"/part-*.ln > "$folder/train.tmp" && mv "$folder/train.tmp" "$folder/train.ln"
}
part rendered-short 11 --text texts/short.txt --width 256 --count 7000
for number in 2 3 4 5 6 7; do part rendered-short "$number" --text texts/short.txt --width 256 --count 5000; done
for number in 21 22 23 24 25; do part rendered-long "$number" --text texts/long.txt --width 512 --count 5000; done
for number in 31 32; do part rendered-wide "$number" --text texts/long.txt --count 5000; done
