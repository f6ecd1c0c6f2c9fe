-- Readings of weather stations: a table that grows by the minute, a view for the page, and a check at night.

BEGIN;

CREATE TABLE stations (
    station_id  SERIAL PRIMARY KEY,
    name        VARCHAR(80) NOT NULL,
    latitude    NUMERIC(8, 5) NOT NULL,
    longitude   NUMERIC(8, 5) NOT NULL,
    altitude_m  INTEGER
);

CREATE TABLE readings (
    station_id  INTEGER NOT NULL REFERENCES stations,
    taken_at    TIMESTAMP WITH TIME ZONE NOT NULL,
    celsius     NUMERIC(4, 1),
    humidity    NUMERIC(4, 1),
    rain_mm     NUMERIC(5, 1) DEFAULT 0,
    PRIMARY KEY (station_id, taken_at)
);

INSERT INTO stations (name, latitude, longitude, altitude_m)
VALUES ('Harbour', 54.31250, 10.13670, 3),
       ('Windmill hill', 54.28010, 10.09120, 61),
       ('Old quarry', 54.40550, 10.22480, 24);

CREATE VIEW today AS
SELECT s.name,
       MIN(r.celsius) AS coldest,
       MAX(r.celsius) AS warmest,
       ROUND(AVG(r.humidity), 1) AS humidity,
       SUM(r.rain_mm) AS rain_mm
FROM stations AS s
INNER JOIN readings AS r ON r.station_id = s.station_id
WHERE r.taken_at >= DATE_TRUNC('day', NOW())
GROUP BY s.name;

CREATE FUNCTION silent_stations(hours INTEGER) RETURNS TABLE (name VARCHAR, last_seen TIMESTAMPTZ) AS $$
    SELECT s.name, MAX(r.taken_at)
    FROM stations AS s
    LEFT JOIN readings AS r USING (station_id)
    GROUP BY s.name
    HAVING COALESCE(MAX(r.taken_at), '-infinity') < NOW() - MAKE_INTERVAL(hours => silent_stations.hours);
$$ LANGUAGE sql STABLE;

COMMIT;

SELECT name,
       CASE
           WHEN warmest >= 30 THEN 'hot'
           WHEN coldest <= 0 THEN 'frost'
           ELSE 'fair'
       END AS kind
FROM today
ORDER BY warmest DESC
LIMIT 10;
