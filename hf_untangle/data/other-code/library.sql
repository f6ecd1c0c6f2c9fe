-- Tables of a lending library, with the questions that its staff ask every week.

CREATE TABLE members (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL,
    email       TEXT UNIQUE,
    joined_on   DATE NOT NULL DEFAULT CURRENT_DATE
);

CREATE TABLE books (
    isbn        CHAR(13) PRIMARY KEY,
    title       TEXT NOT NULL,
    author      TEXT NOT NULL,
    year        SMALLINT CHECK (year BETWEEN 1400 AND 2100),
    copies      INTEGER NOT NULL DEFAULT 1 CHECK (copies >= 0)
);

CREATE TABLE loans (
    id          INTEGER PRIMARY KEY,
    member_id   INTEGER NOT NULL REFERENCES members (id) ON DELETE CASCADE,
    isbn        CHAR(13) NOT NULL REFERENCES books (isbn),
    lent_on     DATE NOT NULL,
    due_on      DATE NOT NULL,
    returned_on DATE,
    CHECK (due_on > lent_on)
);

CREATE INDEX loans_open ON loans (isbn) WHERE returned_on IS NULL;

-- Who has to be reminded?
SELECT m.name, m.email, b.title, l.due_on
FROM loans AS l
JOIN members AS m ON m.id = l.member_id
JOIN books AS b ON b.isbn = l.isbn
WHERE l.returned_on IS NULL
  AND l.due_on < CURRENT_DATE
ORDER BY l.due_on, m.name;

-- How many copies are on the shelf?
SELECT b.title,
       b.copies - COUNT(l.id) AS available
FROM books AS b
LEFT JOIN loans AS l ON l.isbn = b.isbn AND l.returned_on IS NULL
GROUP BY b.isbn, b.title, b.copies
HAVING b.copies - COUNT(l.id) > 0;

-- The three most borrowed authors of each year.
WITH counted AS (
    SELECT EXTRACT(YEAR FROM l.lent_on) AS year,
           b.author,
           COUNT(*) AS loans,
           RANK() OVER (PARTITION BY EXTRACT(YEAR FROM l.lent_on) ORDER BY COUNT(*) DESC) AS place
    FROM loans AS l
    JOIN books AS b USING (isbn)
    GROUP BY 1, 2
)
SELECT year, place, author, loans
FROM counted
WHERE place <= 3
ORDER BY year DESC, place;

UPDATE loans
SET returned_on = CURRENT_DATE
WHERE id = 1042 AND returned_on IS NULL;

DELETE FROM members
WHERE id NOT IN (SELECT member_id FROM loans)
  AND joined_on < DATE '2015-01-01';
