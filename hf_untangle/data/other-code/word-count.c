/* Counts how often each word stands in standard input, with a hash table of chains. */

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096
#define LONGEST 128

struct entry {
    char *word;
    unsigned long count;
    struct entry *next;
};

static struct entry *table[BUCKETS];
static size_t distinct;

static unsigned hash(const char *word)
{
    unsigned value = 5381;
    for (; *word; word++)
        value = value * 33u ^ (unsigned char)*word;
    return value % BUCKETS;
}

static void count_word(const char *word)
{
    unsigned bucket = hash(word);
    for (struct entry *entry = table[bucket]; entry; entry = entry->next) {
        if (strcmp(entry->word, word) == 0) {
            entry->count++;
            return;
        }
    }

    struct entry *fresh = malloc(sizeof *fresh);
    if (!fresh || !(fresh->word = strdup(word))) {
        fprintf(stderr, "out of memory\n");
        exit(EXIT_FAILURE);
    }
    fresh->count = 1;
    fresh->next = table[bucket];
    table[bucket] = fresh;
    distinct++;
}

static int by_count(const void *left, const void *right)
{
    const struct entry *a = *(struct entry *const *)left;
    const struct entry *b = *(struct entry *const *)right;
    if (a->count != b->count)
        return a->count < b->count ? 1 : -1;
    return strcmp(a->word, b->word);
}

int main(void)
{
    char word[LONGEST];
    size_t length = 0;
    int c;

    while ((c = getchar()) != EOF) {
        if (isalpha(c) && length < LONGEST - 1) {
            word[length++] = (char)tolower(c);
        } else if (length > 0) {
            word[length] = '\0';
            count_word(word);
            length = 0;
        }
    }

    struct entry **all = malloc(distinct * sizeof *all);
    size_t i = 0;
    for (unsigned bucket = 0; bucket < BUCKETS; bucket++)
        for (struct entry *entry = table[bucket]; entry; entry = entry->next)
            all[i++] = entry;

    qsort(all, distinct, sizeof *all, by_count);
    for (i = 0; i < distinct && i < 20; i++)
        printf("%8lu %s\n", all[i]->count, all[i]->word);
    free(all);
    return EXIT_SUCCESS;
}
